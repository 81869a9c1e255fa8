"""Dot product: the score of query i and key j is their inner product."""

import numpy as np

SIGNATURE = "q[... i d] k[... j d] -> s[... i j]"
FORMULA = r"s_{ij} = q_i \cdot k_j"
SOURCE = "000 §3.1"
LINEAR_IN_Q = True


def definition(xp, q, k):
    return xp.einsum("...id,...jd->...ij", q, k)


def forward(q, k):
    return q @ np.swapaxes(k, -1, -2), {"q": q, "k": k}


def reach(q, k):
    """What no score of a query exceeds, up or down, as [... i 1]: the inequality of Cauchy and Schwarz."""
    q, k = (np.einsum("...d,...d->...", x, x)[..., None] for x in (q, k))
    return np.sqrt(q * np.max(k, axis=-2, keepdims=True, initial=0))


def backward(ds, *, q, k):
    return {"q": ds @ k, "k": np.swapaxes(ds, -1, -2) @ q}
