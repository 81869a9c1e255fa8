"""Softmax over the keys: scores to weights.

The shift by the row's maximum changes nothing in exact arithmetic and keeps exp from overflowing.
A row in which nothing may be attended has no weights: alpha = 0 there, and so is every gradient.
"""

import numpy as np

SIGNATURE = "s[... i j] -> alpha[... i j]"
FORMULA = r"\alpha_{ij} = e^{s_{ij}} / \sum_k e^{s_{ik}}"
SOURCE = "000 §3.1, 001 §3"
LSE = True


def definition(xp, s):
    e = xp.exp(s)
    z = xp.sum(e, axis=-1, keepdims=True)
    return e / xp.where(z == 0, 1, z)


def forward(s):
    m = np.max(s.real, axis=-1, keepdims=True, initial=-np.inf)
    e = np.exp(s - np.where(np.isneginf(m), 0, m))
    z = np.sum(e, axis=-1, keepdims=True)
    alpha = e / np.where(z == 0, 1, z)
    return alpha, {"alpha": alpha}


def backward(dalpha, *, alpha):
    ds = alpha * (dalpha - np.sum(dalpha * alpha, axis=-1, keepdims=True))
    return {"s": ds}
