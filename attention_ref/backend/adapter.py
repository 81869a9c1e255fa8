"""An adapter: how arrays go into a framework and come back, and how its autodiff pulls a cotangent back.

An adapter imports its framework when it is first used, so only what someone named or already imported is loaded.
"""

import sys
from contextlib import nullcontext
from importlib import import_module
from importlib.util import find_spec

import numpy as np

from attention_ref.errors import OptionError, Unsupported

FLOATS = ("float64", "float32", "float16", "bfloat16")


class Adapter:
    """The framework of NumPy itself; another one is a subclass that says what is different."""

    name = "numpy"
    package = "numpy"
    pip = "numpy"
    roots: tuple = ()
    dtypes: tuple = FLOATS
    differentiates = False

    def __init__(self, device=None):
        self.device = device
        if device is not None and not self.has_device(device):
            raise OptionError(f"backend {self.name!r} has no device {device!r} on this machine")

    @classmethod
    def installed(cls):
        """Whether the framework can be imported; nothing is."""
        return cls.package in sys.modules or find_spec(cls.package) is not None

    @classmethod
    def lacking(cls, device=None):
        """What it needs and is not here, in the rest of a sentence; "" if nothing."""
        return "" if cls.installed() else f"needs {cls.package}: pip install {cls.pip}"

    @property
    def xp(self):
        """The framework's module."""
        return self.load(self.package)

    def load(self, module):
        """A module of the framework, or one sentence if the framework is not installed."""
        try:
            return import_module(module)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != self.package:
                raise
            raise OptionError(f"backend {self.name!r} needs {self.package}: pip install {self.pip}") from None

    @property
    def version(self):
        return str(getattr(self.xp, "__version__", "unknown"))

    @property
    def arrays_of(self):
        """The backend whose arrays it has: itself, unless it runs on another."""
        return self.name

    def has_device(self, device):
        return device == "cpu"

    def owns(self, x):
        """Whether an array is the framework's."""
        return isinstance(x, np.ndarray)

    def scope(self, arrays):
        """A context in which the framework keeps these arrays' dtypes."""
        return nullcontext()

    def array(self, x):
        """A NumPy array as the framework's, of the same dtype, in the same memory where that works."""
        return x

    def numpy(self, x):
        """The framework's array as a NumPy array of the same dtype; other values as they are."""
        return x

    def function(self, candidate):
        """What is called for a candidate: itself, unless the framework has objects that stand for functions."""
        return candidate

    def vjp(self, function, primals, cotangents):
        """The gradients of the primals; `function` takes them in a list and returns as many results as cotangents."""
        raise NotImplementedError(f"{self.name} has no automatic differentiation")

    def value(self, x):
        """An option as the framework has it: arrays as its own, the rest as it is."""
        if isinstance(x, tuple):
            return tuple(self.value(part) for part in x)
        return self.array(x) if isinstance(x, np.ndarray) else x

    def results(self, returned):
        """What a candidate returned, with NumPy arrays in the place of the framework's."""
        if isinstance(returned, dict):
            return {name: self.numpy(x) for name, x in returned.items()}
        if isinstance(returned, (tuple, list)):
            return type(returned)(map(self.numpy, returned))
        return self.numpy(returned)


def narrow(x):
    """Whether NumPy itself has no such dtype: bfloat16."""
    return isinstance(x, np.ndarray) and x.dtype.name == "bfloat16"


def exact(x, dtype):
    """A float32 array of numbers of a dtype that NumPy lacks (bfloat16, float8_…) as that dtype, bit for bit."""
    try:
        import ml_dtypes
    except ModuleNotFoundError:
        raise Unsupported(f"its {dtype} results cannot be read without ml_dtypes: pip install ml_dtypes") from None
    return np.asarray(x).astype(getattr(ml_dtypes, dtype))


def by_dlpack(take, x):
    """An array taken over by DLPack, in the same memory where it is aligned; None for what DLPack has no word for."""
    if x.dtype.kind not in "fiu" or not x.size or not x.flags.c_contiguous or not x.flags.writeable:
        return None
    return take(x)
