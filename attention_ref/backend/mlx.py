"""MLX: arrays are copied; the backward is mx.vjp."""

import numpy as np

from attention_ref.backend.adapter import Adapter, exact, narrow


class Mlx(Adapter):
    """MLX. On its GPU there is no float64."""

    name = package = "mlx"
    pip = "mlx  (on Linux: pip install 'mlx[cpu]')"
    roots = ("mlx",)
    differentiates = True

    @property
    def xp(self):
        mx = self.load("mlx.core")
        if self.device is None or self.device == "cpu":
            mx.set_default_device(mx.cpu)
        return mx

    def has_device(self, device):
        mx = self.load("mlx.core")
        return device == "cpu" or (device in ("gpu", "mps") and mx.metal.is_available())

    def owns(self, x):
        return isinstance(x, self.xp.array)

    def array(self, x):
        mx = self.xp
        if narrow(x):
            return mx.array(x.astype(np.float32)).astype(mx.bfloat16)
        return mx.array(np.asarray(x, order="C"), dtype=getattr(mx, "bool_" if x.dtype == bool else x.dtype.name))

    def numpy(self, x):
        if not self.owns(x):
            return x
        mx = self.xp
        return exact(x.astype(mx.float32), "bfloat16") if x.dtype == mx.bfloat16 else np.array(x)

    def vjp(self, function, primals, cotangents):
        _, grads = self.xp.vjp(lambda *leaves: list(function(list(leaves))), list(primals), list(cotangents))
        return grads


ADAPTER = Mlx
