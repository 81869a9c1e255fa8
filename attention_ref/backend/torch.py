"""PyTorch: tensors share memory with NumPy's arrays where strides allow; the backward is torch.autograd."""

import numpy as np

from attention_ref.backend.adapter import Adapter, exact, narrow
from attention_ref.errors import Unsupported

NARROW = ("bfloat16", "float8_")


class Torch(Adapter):
    """PyTorch."""

    name = package = pip = "torch"
    roots = ("torch",)
    differentiates = True

    def has_device(self, device):
        torch = self.xp
        kind = torch.device(device).type
        if kind == "cuda":
            return torch.cuda.is_available()
        return kind == "cpu" or (kind == "mps" and torch.backends.mps.is_available())

    def owns(self, x):
        return isinstance(x, self.xp.Tensor)

    def array(self, x):
        torch = self.xp
        if narrow(x):
            tensor = torch.from_numpy(x.astype(np.float32)).to(torch.bfloat16)
        else:
            shared = x.flags.writeable and all(n >= 0 and n % x.itemsize == 0 for n in x.strides)
            tensor = torch.from_numpy(x if shared else x.copy())
        return tensor if self.device is None else tensor.to(self.device)

    def numpy(self, x):
        if not self.owns(x):
            return x
        x, dtype = x.detach().cpu(), str(x.dtype).removeprefix("torch.")
        return exact(x.float().numpy(), dtype) if dtype.startswith(NARROW) else x.numpy()

    def vjp(self, function, primals, cotangents):
        torch = self.xp
        leaves = [x.detach().requires_grad_() for x in primals]
        with torch.enable_grad():
            results = function(leaves)
        pairs = [(x, d) for x, d in zip(results, cotangents, strict=True) if x.requires_grad]
        if not pairs:
            raise Unsupported("its results are cut off from torch.autograd")
        results, cotangents = zip(*pairs, strict=True)
        return torch.autograd.grad(
            results,
            leaves,
            [d.to(x.dtype) for x, d in zip(results, cotangents, strict=True)],
            allow_unused=True,
            materialize_grads=True,
        )


ADAPTER = Torch
