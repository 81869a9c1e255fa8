"""tinygrad: tensors are copied; the backward is Tensor.gradient."""

import os
import sys
from shutil import which

import numpy as np

from attention_ref.backend.adapter import Adapter, bfloat16, narrow


class TinyGrad(Adapter):
    """tinygrad."""

    name = package = pip = "tinygrad"
    roots = ("tinygrad",)
    differentiates = True

    def has_device(self, device):
        if device == "cpu":
            return True
        return device.upper() in self.xp.Device.get_available_devices()

    @property
    def xp(self):
        """tinygrad; where there is no compiler for the CPU, on its interpreter, which is slow."""
        if "tinygrad" not in sys.modules and "DEV" not in os.environ and not which("clang"):
            os.environ["DEV"] = "PYTHON"
        return self.load("tinygrad")

    def place(self):
        """The device that was asked for; None for tinygrad's own choice."""
        return self.device and self.device.upper()

    @property
    def version(self):
        from importlib.metadata import version

        return version("tinygrad")

    def owns(self, x):
        return isinstance(x, self.xp.Tensor)

    def array(self, x):
        tinygrad = self.xp
        device = self.place()
        if narrow(x):
            wide = tinygrad.Tensor(x.astype(np.float32), device=device)
            return wide.cast(tinygrad.dtypes.bfloat16).contiguous().realize()
        return tinygrad.Tensor(np.array(x), device=device).realize()

    def numpy(self, x):
        if not self.owns(x):
            return x
        if x.dtype == self.xp.dtypes.bfloat16:
            return bfloat16(x.cast(self.xp.dtypes.float32).numpy())
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
