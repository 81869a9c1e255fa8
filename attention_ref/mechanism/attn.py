"""Attn: positional concatenation gives the weights, the context joins the query, and a linear layer gives the size.

The linear layers are [out in].

Erratum, repaired. Printed: only Q[0] and K[0] are used, so that a batch of more than one fails in bmm. Meant:
every member of the batch. What differs: nothing for a batch of one.
"""

import numpy as np

from attention_ref.op.arrays import leading_sum, outer_sum, reduce_to
from attention_ref.pipeline.attention import attention
from attention_ref.pipeline.rule import rules

SIGNATURE = "q[... i d] k[... i c] v[... j e] w_a[j d+c] b_a[j] w_c[y d+e] b_c[y] -> y[... i y] alpha[... i j]"
FORMULA = r"y_i = W_c [q_i ; \sum_j \alpha_{ij} v_j] + b_c, \quad \alpha_i = \mathrm{softmax}(W_a [q_i ; k_i] + b_a)"
SOURCE = "002 steps 1–3 (Attn)"


def definition(xp, q, k, v, w_a, b_a, w_c, b_c):
    context, alpha, _ = rules["positional_concat"].definition(xp, q, k, v, w=w_a, b=b_a)
    joined = xp.concatenate([q + xp.zeros_like(xp.sum(context, axis=-1, keepdims=True)), context], axis=-1)
    return xp.einsum("...ix,yx->...iy", joined, w_c) + b_c, alpha


def forward(q, k, v, w_a, b_a, w_c, b_c):
    d = q.shape[-1]
    attended = attention(q, k, v, "positional_concat", w=w_a, b=b_a)
    y = q @ w_c[:, :d].T + attended.o @ w_c[:, d:].T + b_c
    return (y, attended.alpha), {"q": q, "w_c": w_c, "attended": attended}


def backward(cotangents, *, q, w_c, attended):
    dy, dalpha = cotangents
    d = q.shape[-1]
    dw_c = np.concatenate([outer_sum(dy, q), outer_sum(dy, attended.o)], axis=1)
    g = attended.backward(dy @ w_c[:, d:], dalpha=dalpha)
    dq = reduce_to(dy @ w_c[:, :d], q.shape) + g["q"]
    return {"q": dq, "k": g["k"], "v": g["v"], "w_a": g["w"], "b_a": g["b"], "w_c": dw_c, "b_c": leading_sum(dy)}
