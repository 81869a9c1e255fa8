"""One query over a sequence of values, which are their own keys, and two dense layers: one of the context, one of q.

The linear layers are [out in]. Positions from `lengths` on are not looked at, be they NaN; with length 0 the context
and alpha are 0.

Erratum, repaired. Printed: the query has an axis of length 1 in one layer and not in the other, so that the sum
is (batch, batch, units); and the call passes an actual_length that the class does not have. Meant: one vector for every
member of the batch, over the positions within its length. What differs: the shape, and what padding does.
"""

import numpy as np

from attention_ref.op.arrays import leading_sum, outer_sum
from attention_ref.pipeline.attention import attention
from attention_ref.pipeline.rule import rules

SIGNATURE = "q[... m] values[... j m] w_1[u m] b_1[u] w_2[u m] b_2[u] lengths?<=j[...] -> y[... u] alpha[... j]"
FORMULA = r"y = \mathrm{relu}(W_1 c + b_1) + W_2 q + b_2, \quad c = \mathrm{softmax}(q V^\top / \sqrt m) \, V"
SOURCE = "003 §4 (AttentionLayer)"
VARIANTS = ({"include": ()}, {"include": ("lengths",)})


def definition(xp, q, values, w_1, b_1, w_2, b_2, lengths=None):
    allowed = None if lengths is None else within(lengths, values.shape[-2])
    if lengths is not None:
        q = q + np.zeros((*lengths.shape, 1))
    context, alpha, _ = rules["scaled_dot"].definition(xp, q[..., None, :], values, values, allowed=allowed)
    pre = xp.einsum("...m,um->...u", context[..., 0, :], w_1) + b_1
    return xp.where(xp.real(pre) <= 0, 0, pre) + xp.einsum("...m,um->...u", q, w_2) + b_2, alpha[..., 0, :]


def forward(q, values, w_1, b_1, w_2, b_2, lengths=None):
    allowed = None if lengths is None else within(lengths, values.shape[-2])
    leading = np.broadcast_shapes(q.shape[:-1], values.shape[:-2], () if lengths is None else lengths.shape)
    q = np.broadcast_to(q, (*leading, q.shape[-1]))
    attended = attention(q[..., None, :], values, values, allowed=allowed)
    context, alpha = attended.o[..., 0, :], attended.alpha[..., 0, :]
    pre = context @ w_1.T + b_1
    y = np.where(pre.real <= 0, 0, pre) + q @ w_2.T + b_2
    return (y, alpha), {"q": q, "context": context, "pre": pre, "w_1": w_1, "w_2": w_2, "attended": attended}


def backward(cotangents, *, q, context, pre, w_1, w_2, attended):
    dy, dalpha = cotangents
    grads = {"w_2": outer_sum(dy, q), "b_2": leading_sum(dy)}
    dpre = np.where(pre.real <= 0, 0, dy)
    grads |= {"w_1": outer_sum(dpre, context), "b_1": leading_sum(dpre)}
    dcontext = dpre @ w_1
    g = attended.backward(dcontext[..., None, :], dalpha=dalpha[..., None, :])
    return grads | {"q": dy @ w_2 + g["q"][..., 0, :], "values": g["k"] + g["v"]}


def within(lengths, j):
    return np.arange(j) < lengths[..., None, None]
