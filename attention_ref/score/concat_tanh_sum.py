"""Concatenation, a linear map, tanh and a sum: each pair's [q; k] goes through a hidden layer that is summed."""

import numpy as np

from attention_ref.op.arrays import leading_sum, outer_sum

SIGNATURE = "q[... i d] k[... j c] w[x d+c] b[x] -> s[... i j]"
FORMULA = r"s_{ij} = \sum_x \tanh(W [q_i ; k_j] + b)_x"
SOURCE = "002 rule 2"


def definition(xp, q, k, w, b):
    leading = np.broadcast_shapes(q.shape[:-2], k.shape[:-2])
    every = np.zeros((*leading, q.shape[-2], k.shape[-2], 1))
    pairs = xp.concatenate([q[..., :, None, :] + every, k[..., None, :, :] + every], axis=-1)
    return xp.sum(xp.tanh(xp.einsum("...ijy,xy->...ijx", pairs, w) + b), axis=-1)


def forward(q, k, w, b):
    d = q.shape[-1]
    hidden = np.tanh((q @ w[:, :d].T)[..., :, None, :] + (k @ w[:, d:].T + b)[..., None, :, :])
    return hidden.sum(axis=-1), {"q": q, "k": k, "w": w, "hidden": hidden}


def backward(ds, *, q, k, w, hidden):
    d = q.shape[-1]
    dpre = ds[..., None] * (1 - hidden * hidden)
    dpre_q, dpre_k = dpre.sum(axis=-2), dpre.sum(axis=-3)
    dw_q = outer_sum(dpre_q, q)
    dw_k = outer_sum(dpre_k, k)
    db = leading_sum(dpre_k)
    return {"q": dpre_q @ w[:, :d], "k": dpre_k @ w[:, d:], "w": np.concatenate([dw_q, dw_k], axis=1), "b": db}
