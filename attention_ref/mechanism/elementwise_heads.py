"""Attention element by element: every feature weighs the positions by q∘k, and the weights multiply q∘v in place.

Erratum. Printed: Attentions = softmax((Q_i * K_i)ᵀ / √d), Weight = Q_i * V_i, and both are multiplied element
by element. Meant: softmax(Q_i K_iᵀ / √d) V_i, as in `multi_head_attention`. What differs: there is no score between two
positions, nothing is summed over the keys, and a position sees the others only through the softmax's denominator.
"""

from math import sqrt

import numpy as np

from attention_ref.normalize import softmax

SIGNATURE = "q[... t d] k[... t d] v[... t d] -> y[... t d]"
FORMULA = r"y_{td} = \alpha_{dt} q_{td} v_{td}, \quad \alpha_d = \mathrm{softmax}_t(q_{td} k_{td} / \sqrt d)"
SOURCE = "003 §3 form 2, steps 3–4 as printed"
ERRATUM = "queries, keys and values are multiplied element by element"


def definition(xp, q, k, v):
    e = xp.exp(q * k / max(q.shape[-1], 1) ** 0.5)
    return e / xp.sum(e, axis=-2, keepdims=True) * q * v


def forward(q, k, v):
    scale = 1 / sqrt(max(q.shape[-1], 1))
    (alpha, _), _ = softmax.forward(np.swapaxes(q * k * scale, -1, -2))
    weight = q * v
    y = np.swapaxes(alpha, -1, -2) * weight
    return y, {"q": q, "k": k, "v": v, "scale": scale, "alpha": alpha, "weight": weight}


def backward(dy, *, q, k, v, scale, alpha, weight):
    dweight = np.swapaxes(alpha, -1, -2) * dy
    dalpha = np.swapaxes(weight * dy, -1, -2)
    dproduct = np.swapaxes(softmax.backward((dalpha, None), alpha=alpha)["s"], -1, -2) * scale
    return {"q": dproduct * k + dweight * v, "k": dproduct * q, "v": dweight * q}
