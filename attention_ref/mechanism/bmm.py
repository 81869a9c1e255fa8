"""Batched matrix product: one product for every member of the batch."""

import numpy as np

SIGNATURE = "a[b n m] c[b m p] -> y[b n p]"
FORMULA = r"y_{bnp} = \sum_m a_{bnm} c_{bmp}"
SOURCE = "002 bmm"


def definition(xp, a, c):
    return xp.einsum("bnm,bmp->bnp", a, c)


def forward(a, c):
    return a @ c, {"a": a, "c": c}


def backward(dy, *, a, c):
    return {"a": dy @ np.swapaxes(c, -1, -2), "c": np.swapaxes(a, -1, -2) @ dy}
