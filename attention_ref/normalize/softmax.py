"""Softmax over the keys: scores to weights.

The shift by the row's maximum changes nothing in exact arithmetic and keeps exp from overflowing.
A row in which nothing may be attended has no weights: alpha = 0 and lse = -inf there, and every gradient is 0.
"""

import numpy as np

SIGNATURE = "s[... i j] -> alpha[... i j] lse[... i]"
FORMULA = r"\alpha_{ij} = e^{s_{ij}} / \sum_k e^{s_{ik}}, \quad \ell_i = \log \sum_k e^{s_{ik}}"
SOURCE = "000 §3.1, 001 §3"


def definition(xp, s):
    e = xp.exp(s)
    z = xp.sum(e, axis=-1, keepdims=True)
    empty = z == 0
    alpha = e / xp.where(empty, 1, z)
    lse = xp.where(empty, -np.inf, xp.log(xp.where(empty, 1, z)))
    return alpha, lse[..., 0]


def forward(s):
    m = np.max(s.real, axis=-1, keepdims=True, initial=-np.inf)
    m = np.where(np.isneginf(m), 0, m)
    e = s - m
    np.exp(e, out=e)  # one array for difference, exponential and weights: at [i j] memory traffic costs the time
    z = np.sum(e, axis=-1, keepdims=True)
    lse = np.log(z) + m
    e /= np.where(z == 0, 1, z)
    return (e, lse[..., 0]), {"alpha": e}


def backward(cotangents, *, alpha):
    dalpha, dlse = cotangents
    # From alpha_j = e^(s_j - lse) and ∂lse/∂s_j = alpha_j:
    # ds_j = alpha_j (dalpha_j - row), where row = Σ_k dalpha_k alpha_k - dlse
    products = dalpha * alpha
    row = np.sum(products, axis=-1, keepdims=True)
    if dlse is not None:
        row = row - dlse[..., None]
    ds = np.subtract(dalpha, row, out=products)  # the same memory again
    ds *= alpha
    return {"s": ds}
