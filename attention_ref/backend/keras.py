"""Keras 3: arrays and autodiff are those of the backend that Keras runs on, which KERAS_BACKEND names."""

import os
import sys
from functools import cached_property
from importlib.util import find_spec

import numpy as np

from attention_ref.backend.adapter import Adapter
from attention_ref.backend.jax import Jax
from attention_ref.backend.numpy import NumPy
from attention_ref.backend.tensorflow import TensorFlow
from attention_ref.backend.torch import Torch
from attention_ref.errors import OptionError

BELOW: dict[str, type[Adapter]] = {"torch": Torch, "jax": Jax, "tensorflow": TensorFlow, "numpy": NumPy}


class Keras(Adapter):
    """Keras 3, whose arrays are another framework's."""

    name = package = pip = "keras"
    roots = ("keras",)

    @property
    def xp(self):
        """Keras, on the backend that the user chose; where none was chosen, on one that is installed."""
        if "keras" not in sys.modules and "KERAS_BACKEND" not in os.environ:
            present = [name for name in ("tensorflow", "torch", "jax") if find_spec(name)]
            if present:
                os.environ["KERAS_BACKEND"] = present[0]
        return self.load("keras")

    @cached_property
    def below(self):
        name = self.xp.config.backend()
        if name not in BELOW:
            raise OptionError(f"backend 'keras' has no adapter for KERAS_BACKEND={name}; use {', '.join(BELOW)}")
        return BELOW[name](self.device)

    @property
    def differentiates(self):  # type: ignore[override]
        return self.below.differentiates

    @property
    def arrays_of(self):
        return self.below.name

    @property
    def version(self):
        return f"{self.xp.__version__} on {self.below.name} {self.below.version}"

    def has_device(self, device):
        return self.below.has_device(device)

    def owns(self, x):
        return self.below.owns(x)

    def scope(self, arrays):
        return self.below.scope(arrays)

    def array(self, x):
        return self.below.array(x)

    def numpy(self, x):
        if hasattr(x, "detach") and not isinstance(x, np.ndarray):
            x = x.detach()
        return self.below.numpy(x)

    def vjp(self, function, primals, cotangents):
        return self.below.vjp(function, primals, cotangents)


ADAPTER = Keras
