"""Additive: a small neural network with one hidden layer scores every pair of query and key."""

import numpy as np

from attention_ref.op.arrays import leading_sum, outer_sum

SIGNATURE = "q[... i d] k[... j c] w_q[x d] w_k[x c] b[x] w_s[x] -> s[... i j]"
FORMULA = r"s_{ij} = w_s \cdot \tanh(W_q q_i + W_k k_j + b)"
SOURCE = "000 §3.1, 001 §3"


def definition(xp, q, k, w_q, w_k, b, w_s):
    from_q = xp.einsum("...id,xd->...ix", q, w_q)
    from_k = xp.einsum("...jc,xc->...jx", k, w_k)
    return xp.einsum("...ijx,x->...ij", xp.tanh(from_q[..., :, None, :] + from_k[..., None, :, :] + b), w_s)


def forward(q, k, w_q, w_k, b, w_s):
    hidden = np.tanh((q @ w_q.T)[..., :, None, :] + (k @ w_k.T + b)[..., None, :, :])
    return hidden @ w_s, {"q": q, "k": k, "w_q": w_q, "w_k": w_k, "w_s": w_s, "hidden": hidden}


def backward(ds, *, q, k, w_q, w_k, w_s, hidden):
    dw_s = outer_sum(ds[..., None], hidden)[0]
    dpre = ds[..., None] * w_s * (1 - hidden * hidden)
    dpre_q, dpre_k = dpre.sum(axis=-2), dpre.sum(axis=-3)
    dw_q = outer_sum(dpre_q, q)
    dw_k = outer_sum(dpre_k, k)
    db = leading_sum(dpre_k)
    return {"q": dpre_q @ w_q, "k": dpre_k @ w_k, "w_q": dw_q, "w_k": dw_k, "b": db, "w_s": dw_s}
