"""The weighted sum of the values: what attention returns.

A weight that is zero because its key is not allowed takes nothing from the value, be it NaN: the sum selects. So does
the backward: a row that may attend to nothing hands on nothing of its cotangent.
"""

import numpy as np

from attention_ref.op.arrays import select

SIGNATURE = "alpha[... i j] v[... j e] allowed?:bool(... i j) -> o[... i e]"
FORMULA = r"o_i = \sum_j \alpha_{ij} v_j"
SOURCE = "000 §3.1, 001 §3, 002 (bmm)"
VARIANTS = ({}, {"include": ("allowed",)})


def definition(xp, alpha, v, allowed=None):
    terms = alpha[..., :, :, None] * v[..., None, :, :]
    return xp.sum(terms if allowed is None else xp.where(allowed[..., None], terms, 0), axis=-2)


def forward(alpha, v, allowed=None):
    alpha = alpha if allowed is None else select(allowed, alpha)
    return selected_matmul(alpha, v, allowed), {"alpha": alpha, "v": v, "allowed": allowed}


def backward(do, *, alpha, v, allowed):
    if allowed is not None:
        do = np.where(np.any(allowed, axis=-1, keepdims=True), do, 0)
    dalpha = do @ np.swapaxes(v, -1, -2)
    dv = np.swapaxes(alpha, -1, -2) @ do
    return {"alpha": dalpha if allowed is None else select(allowed, dalpha, over=True), "v": dv}


def selected_matmul(alpha, v, allowed):
    """alpha @ v, in which a key with a non-finite value counts only for the queries that may attend to it."""
    if allowed is None:
        return alpha @ v
    finite = np.isfinite(v).all(axis=-1)
    if finite.all():
        return alpha @ v
    allowed = np.broadcast_to(allowed, alpha.shape)
    seen = ~finite & allowed.any(axis=-2)
    keys = np.flatnonzero(seen.any(axis=tuple(range(seen.ndim - 1))))
    o = alpha @ np.where(finite[..., None], v, 0)
    wild = np.where(finite[..., None], 0, v)[..., keys, :]
    terms = alpha[..., keys, None] * wild[..., None, :, :]
    return o + np.sum(np.where(allowed[..., keys, None], terms, 0), axis=-2)
