"""Dot product times the length of the key.

Erratum. Printed: the score is "the inner product of query and key times the key's norm" (模长). Meant: divided
by the square root of its width, as in the same text's formula. What differs: a long key is favored twice, by its
product with the query and by its own length.
"""

import numpy as np

from attention_ref.score.cosine import normalized

SIGNATURE = "q[... i d] k[... j d] -> s[... i j]"
FORMULA = r"s_{ij} = (q_i \cdot k_j) \, \|k_j\|"
SOURCE = "003 §2, as worded"
ERRATUM = "times the key's norm instead of divided by the root of its width"


def definition(xp, q, k):
    squares = xp.einsum("...jd,...jd->...j", k, k)
    norm = xp.where(squares == 0, 0, xp.sqrt(xp.where(squares == 0, 1, squares)))
    return xp.einsum("...id,...jd,...j->...ij", q, k, norm)


def forward(q, k):
    unit, norm = normalized(k)
    s = (q @ np.swapaxes(k, -1, -2)) * np.swapaxes(norm, -1, -2)
    return s, {"q": q, "k": k, "unit": unit, "norm": norm}


def backward(ds, *, q, k, unit, norm):
    dq = (ds * np.swapaxes(norm, -1, -2)) @ k
    dscaled = np.swapaxes(ds, -1, -2) @ q
    dnorm = np.sum(dscaled * k, axis=-1, keepdims=True)
    return {"q": dq, "k": dscaled * norm + dnorm * unit}
