"""tinygrad: tensors are copied; the backward is Tensor.gradient.

Its CPU device compiles with clang, or with the x86 assembler of 0.13, which needs no other program; that of 0.14 does.
DEV names another device, such as PYTHON, its interpreter, which is slow.
"""

import os
import platform
from dataclasses import replace
from importlib.metadata import version
from shutil import which
from subprocess import CalledProcessError

import numpy as np

from attention_ref.backend.adapter import Adapter, exact, narrow
from attention_ref.errors import OptionError, Unsupported


def compiles():
    """Whether the compiler that it calls for the CPU is here."""
    return which(os.environ.get("CC", "clang")) is not None


def assembles():
    """Whether its own assembler makes code for this CPU without a compiler."""
    return platform.machine().lower() in ("x86_64", "amd64") and version("tinygrad").startswith("0.13.")


class TinyGrad(Adapter):
    """tinygrad."""

    name = package = pip = "tinygrad"
    roots = ("tinygrad",)
    differentiates = True

    def __init__(self, device=None):
        super().__init__(device)
        if not compiles() and assembles():
            self.assemble()
        try:
            self.place() or self.xp.Device.DEFAULT
        except RuntimeError:
            raise OptionError("backend 'tinygrad' finds no device it can compile for; name one in DEV") from None

    def has_device(self, device):
        if device == "cpu":
            return True
        return device.upper() in self.xp.Device.get_available_devices()

    @classmethod
    def lacking(cls, device=None):
        sentence = super().lacking(device)
        named = device not in (None, "cpu") or (os.environ.get("DEV") or "CPU").upper() != "CPU"
        if sentence or named or compiles() or assembles():
            return sentence
        return (
            "compiles for the CPU with clang: install clang, or on x86-64 pip install 'tinygrad==0.13.0', "
            "which has an assembler, or name another device in the variable DEV"
        )

    def assemble(self):
        """Choose the assembler for the CPU, unless DEV names how; the default device stays."""
        from tinygrad.helpers import DEV, Target

        if not DEV.target("CPU").renderer:
            named = [one for one in DEV.value if one.device] or [Target(self.xp.Device.DEFAULT)]
            named = [replace(one, renderer="X86") if one.device == "CPU" else one for one in named]
            DEV.value = list(dict.fromkeys([*named, Target("CPU", "X86")]))

    def place(self):
        """The device that was asked for; None for tinygrad's own choice."""
        return self.device and self.device.upper()

    @property
    def version(self):
        return version("tinygrad")

    def owns(self, x):
        return isinstance(x, self.xp.Tensor)

    def array(self, x):
        tinygrad = self.xp
        device = self.place()
        if narrow(x):
            wide = tinygrad.Tensor(x.astype(np.float32), device=device)
            try:
                return wide.cast(tinygrad.dtypes.bfloat16).contiguous().realize()
            except CalledProcessError:
                raise Unsupported("this clang has no bfloat16 for tinygrad") from None
        return tinygrad.Tensor(np.array(x), device=device).realize()

    def numpy(self, x):
        if not self.owns(x):
            return x
        if x.dtype in self.xp.dtypes.fp8s:
            raise Unsupported(f"its {x.dtype.name} results are not read: tinygrad rounds them on the way out")
        if x.dtype == self.xp.dtypes.bfloat16:
            return exact(x.cast(self.xp.dtypes.float32).numpy(), "bfloat16")
        return np.array(x.numpy())

    def vjp(self, function, primals, cotangents):
        Tensor = self.xp.Tensor
        leaves = [x.detach().contiguous().realize() for x in primals]
        results = function(leaves)
        total = Tensor(0.0, device=leaves[0].device)
        if len(results) == 1:
            return results[0].gradient(*leaves, gradient=cotangents[0].cast(results[0].dtype))
        for x, d in zip(results, cotangents, strict=True):
            total = total + (x.float() * d.float()).sum()
        return total.gradient(*leaves)


ADAPTER = TinyGrad
