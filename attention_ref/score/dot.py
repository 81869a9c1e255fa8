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


def largest(q, k):
    """What no score of these exceeds, up or down: the inequality of Cauchy and Schwarz."""
    longest_q, longest_k = (np.einsum("...d,...d->...", x, x).max(initial=0) for x in (q, k))
    return np.sqrt(longest_q * longest_k)


def backward(ds, *, q, k):
    return {"q": ds @ k, "k": np.swapaxes(ds, -1, -2) @ q}
