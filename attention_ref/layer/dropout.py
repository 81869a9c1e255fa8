"""Dropout with a given keep mask: a dropped weight is 0, a kept one is scaled so that the mean stays."""

import numpy as np

from attention_ref.op.arrays import checked_number, select

SIGNATURE = "alpha[... i j] keep:bool(... i j) -> dropped[... i j]"
FORMULA = r"\alpha_{ij} \leftarrow \alpha_{ij} \, [\text{kept}_{ij}] / (1 - p)"
SOURCE = "Srivastava et al. 2014"
VARIANTS = ({"options": {"p": 0.3}},)


def definition(xp, alpha, keep, p):
    return alpha * (keep / (1 - p))


def forward(alpha, keep, p):
    p = checked_number("p", p, 0, 1)
    factor = np.asarray(1 / (1 - p), alpha.real.dtype)
    return select(keep, alpha * factor), {"keep": keep, "factor": factor}


def backward(ddropped, *, keep, factor):
    return {"alpha": select(keep, ddropped * factor)}
