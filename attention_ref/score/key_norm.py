"""Dot product times the length of the key.

Slip of the pen. Printed: the score is "the inner product of query and key times the key's norm" (模长). Meant: divided
by the square root of its width, as in the same text's formula. What differs: a long key is favored twice, by its
product with the query and by its own length.
"""

import numpy as np

SIGNATURE = "q[... i d] k[... j d] -> s[... i j]"
FORMULA = r"s_{ij} = (q_i \cdot k_j) \, \|k_j\|"
SOURCE = "003 §2, as worded"
SLIP = "times the key's norm instead of divided by the root of its width"
LINEAR_IN_Q = True


def definition(xp, q, k):
    squares = xp.einsum("...jd,...jd->...j", k, k)
    norm = xp.where(squares == 0, 0, xp.sqrt(xp.where(squares == 0, 1, squares)))
    return xp.einsum("...id,...jd,...j->...ij", q, k, norm)


def forward(q, k):
    norm = np.sqrt(np.sum(k * k, axis=-1, keepdims=True))
    return q @ np.swapaxes(k * norm, -1, -2), {"q": q, "k": k, "norm": norm}


def backward(ds, *, q, k, norm):
    dscaled = np.swapaxes(ds, -1, -2) @ q
    dnorm = np.sum(dscaled * k, axis=-1, keepdims=True)
    unit = k / np.where(norm == 0, 1, norm)
    return {"q": ds @ (k * norm), "k": dscaled * norm + dnorm * unit}
