"""The two programs under test, as their author would bring them: attention in plain NumPy, one of them subtly wrong."""

from math import sqrt

import numpy as np


def correct(q, k, v, do):
    """Everything a caller can see of attention: o, alpha and the gradients dq, dk, dv."""
    return attention(q, k, v, do, scale=1 / sqrt(q.shape[-1]))


def wrong(q, k, v, do):
    """The same, scaled by the width of the values where the width of the keys is meant."""
    return attention(q, k, v, do, scale=1 / sqrt(v.shape[-1]))


def attention(q, k, v, do, scale):
    s = scale * (q @ transpose(k))
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    alpha = e / e.sum(axis=-1, keepdims=True)
    o = alpha @ v

    dv = transpose(alpha) @ do
    dalpha = do @ transpose(v)
    ds = alpha * (dalpha - (do * o).sum(axis=-1, keepdims=True))
    dq = scale * (ds @ k)
    dk = scale * (transpose(ds) @ q)
    return {"o": o, "alpha": alpha, "dq": dq, "dk": dk, "dv": dv}


def transpose(x):
    return np.swapaxes(x, -1, -2)
