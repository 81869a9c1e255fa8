"""Keep only the allowed scores: the others become -inf, by selection, whatever they were."""

import numpy as np

from attention_ref.op.arrays import select

SIGNATURE = "s[... i j] allowed:bool(... i j) -> masked[... i j]"
FORMULA = r"s_{ij} \leftarrow -\infty \text{ where } j \text{ is not allowed for } i"
SOURCE = "000 §3.1 (the sum runs over the keys that there are)"


def definition(xp, s, allowed):
    return xp.where(allowed, s, -np.inf)


def forward(s, allowed):
    return select(allowed, s, -np.inf), {"allowed": allowed}


def backward(dmasked, *, allowed):
    return {"s": select(allowed, dmasked)}
