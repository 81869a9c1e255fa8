"""Concatenation and a linear map: each pair's [q; k] is mapped to one number.

The score is w_q . q_i + w_k . k_j + b. Its query part and b are the same for every key of a row, and softmax does not
see them: alpha is the same for every query, and through o the gradients of q, of w's query part and of b are exactly
zero. They are not zero through lse.
"""

import numpy as np

from attention_ref.op.arrays import outer_sum

SIGNATURE = "q[... i d] k[... j c] w[d+c] b[] -> s[... i j]"
FORMULA = r"s_{ij} = w \cdot [q_i ; k_j] + b"
SOURCE = "002 rule 1"


def definition(xp, q, k, w, b):
    leading = np.broadcast_shapes(q.shape[:-2], k.shape[:-2])
    every = np.zeros((*leading, q.shape[-2], k.shape[-2], 1))
    pairs = xp.concatenate([q[..., :, None, :] + every, k[..., None, :, :] + every], axis=-1)
    return xp.einsum("...ijx,x->...ij", pairs, w) + b


def forward(q, k, w, b):
    d = q.shape[-1]
    s = (q @ w[:d])[..., :, None] + (k @ w[d:] + b)[..., None, :]
    return s, {"q": q, "k": k, "w": w}


def backward(ds, *, q, k, w):
    d = q.shape[-1]
    drow, dcolumn = ds.sum(axis=-1), ds.sum(axis=-2)
    dw_q = outer_sum(drow[..., None], q)[0]
    dw_k = outer_sum(dcolumn[..., None], k)[0]
    dq, dk = drow[..., None] * w[:d], dcolumn[..., None] * w[d:]
    return {"q": dq, "k": dk, "w": np.concatenate([dw_q, dw_k]), "b": ds.sum()}
