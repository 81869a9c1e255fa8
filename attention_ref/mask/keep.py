"""Keep only the allowed scores: the others become -inf, by selection, whatever they were."""

import numpy as np

SIGNATURE = "s[... i j] allowed:bool(... i j) -> masked[... i j]"
FORMULA = r"s_{ij} \leftarrow -\infty \text{ where } j \text{ is not allowed for } i"
SOURCE = "000 §3.1 (the sum runs over the keys that there are)"


def definition(xp, s, allowed):
    return xp.where(allowed, s, -np.inf)


def forward(s, allowed):
    return np.where(allowed, s, -np.inf).astype(s.dtype, copy=False), {"allowed": allowed}


def backward(dmasked, *, allowed):
    return {"s": np.where(allowed, dmasked, 0)}
