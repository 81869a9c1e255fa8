"""Dot product: the score of query i and key j is their inner product."""

import numpy as np

SIGNATURE = "q[... i d] k[... j d] -> s[... i j]"
FORMULA = r"s_{ij} = q_i \cdot k_j"
SOURCE = "000 §3.1"


def definition(xp, q, k):
    return xp.einsum("...id,...jd->...ij", q, k)


def forward(q, k):
    return q @ np.swapaxes(k, -1, -2), {"q": q, "k": k}


def backward(ds, *, q, k):
    return {"q": ds @ k, "k": np.swapaxes(ds, -1, -2) @ q}
