"""General: a bilinear form between query and key, with a matrix in the middle."""

import numpy as np

from attention_ref.op.arrays import outer_sum

SIGNATURE = "q[... i d] k[... j c] w[d c] -> s[... i j]"
FORMULA = r"s_{ij} = q_i^\top W k_j"
SOURCE = "Luong, Pham & Manning 2015 (general), completes the family"


def definition(xp, q, k, w):
    return xp.einsum("...id,dc,...jc->...ij", q, w, k)


def forward(q, k, w):
    qw = q @ w
    return qw @ np.swapaxes(k, -1, -2), {"q": q, "k": k, "w": w, "qw": qw}


def backward(ds, *, q, k, w, qw):
    dqw = ds @ k
    dk = np.swapaxes(ds, -1, -2) @ qw
    dw = outer_sum(q, dqw)
    return {"q": dqw @ w.T, "k": dk, "w": dw}
