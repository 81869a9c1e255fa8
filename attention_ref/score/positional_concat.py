"""Positional concatenation: row i's [q; k] is mapped to one score for each position of v.

The keys are paired with the queries row by row, and position j has a weight vector of its own: what stands at
position j is never looked at.
"""

import numpy as np

from attention_ref.op.arrays import leading_sum, outer_sum

SIGNATURE = "q[... i d] k[... i c] w[j d+c] b[j] -> s[... i j]"
FORMULA = r"s_{ij} = w_j \cdot [q_i ; k_i] + b_j"
SOURCE = "002 step 1 (Attn), 001 §5 (AttnDecoder)"


def definition(xp, q, k, w, b):
    d = q.shape[-1]
    return xp.einsum("...id,jd->...ij", q, w[:, :d]) + xp.einsum("...ic,jc->...ij", k, w[:, d:]) + b


def forward(q, k, w, b):
    d = q.shape[-1]
    return q @ w[:, :d].T + k @ w[:, d:].T + b, {"q": q, "k": k, "w": w}


def backward(ds, *, q, k, w):
    d = q.shape[-1]
    dw_q = outer_sum(ds, q)
    dw_k = outer_sum(ds, k)
    db = leading_sum(ds)
    return {"q": ds @ w[:, :d], "k": ds @ w[:, d:], "w": np.concatenate([dw_q, dw_k], axis=1), "b": db}
