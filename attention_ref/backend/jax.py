"""JAX: arrays go in by DLPack, results are copied; the backward is jax.vjp.

64-bit floats are switched on for a case that has them. An array that a function returns as it came is no view of the
input to JAX, whose arrays never change: so results are copied.
"""

from contextlib import nullcontext

import numpy as np

from attention_ref.backend.adapter import Adapter, by_dlpack


class Jax(Adapter):
    """JAX."""

    name = package = pip = "jax"
    roots = ("jax", "jaxlib", "flax")
    differentiates = True

    def has_device(self, device):
        try:
            return bool(self.xp.devices("gpu" if device == "cuda" else device))
        except RuntimeError:
            return False

    def owns(self, x):
        return isinstance(x, self.xp.Array)

    def scope(self, arrays):
        wide = any(isinstance(x, np.ndarray) and x.dtype == np.float64 for x in arrays)
        return self.x64() if wide else nullcontext()

    def x64(self):
        if hasattr(self.xp, "enable_x64"):
            return self.xp.enable_x64(True)
        return self.load("jax.experimental").enable_x64()

    def array(self, x):
        jax = self.xp
        if x.dtype.kind in "iu" and not jax.config.jax_enable_x64:
            x = x.astype(np.int32, copy=False)
        if self.device is None:
            shared = by_dlpack(jax.numpy.from_dlpack, x)
            return jax.numpy.asarray(np.asarray(x, order="C")) if shared is None else shared
        kind = "gpu" if self.device == "cuda" else self.device
        return jax.device_put(np.asarray(x, order="C"), jax.devices(kind)[0])

    def numpy(self, x):
        return np.array(x) if self.owns(x) else x

    def vjp(self, function, primals, cotangents):
        results, pull = self.xp.vjp(function, list(primals))
        return pull([d.astype(x.dtype) for d, x in zip(cotangents, results, strict=True)])[0]


ADAPTER = Jax
