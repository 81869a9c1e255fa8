"""Multi-head attention: every head projects queries, keys and values for itself, and y is the sum over the heads.

That sum is the usual "concatenate the heads and multiply by W_o", with W_o cut into one block a head. With softmax and
one scale for the row, the gradient of b_k is zero up to rounding: it shifts every score of a row by the same number.

Erratum, repaired. Printed: Q_i and K_i, Q_i and V_i and then weights and values are multiplied element by
element, as `elementwise_heads` keeps it. Meant: every head computes softmax(Q_i K_iᵀ / √d) V_i. What differs: here a
position takes from the other positions; as printed it cannot.
"""

import numpy as np

from attention_ref.mechanism.heads import merge_heads, split_heads
from attention_ref.op.arrays import leading_sum, outer_sum
from attention_ref.op.signature import Signature
from attention_ref.pipeline.attention import attend
from attention_ref.pipeline.pipeline import OPTIONAL
from attention_ref.pipeline.rule import rules

# The options of attention, each with an axis of heads; n is the width of the keys here, so the table's buckets are r.
OPTIONS = " ".join(
    option.renamed(n="r").with_axis("h").declaration for option in Signature(f"{OPTIONAL} -> y[]").arguments
)
SIGNATURE = (
    "q[... i m] k[... j n] v[... j p] w_q[h m d] w_k[h n d] w_v[h p e] w_o[h e y] "
    f"b_q?[h d] b_k?[h d] b_v?[h e] b_o?[y] {OPTIONS} -> y[... i y] alpha[... h i j]"
)
FORMULA = r"Y = \sum_h \alpha_h V_h W_o^h + b_o, \quad \alpha_h = \mathrm{softmax}(Q_h K_h^\top / \sqrt d)"
SOURCE = "003 §3 form 2, as meant"
BIASES = ("b_q", "b_k", "b_v", "b_o")
VARIANTS = (
    {"include": BIASES},
    {"include": ()},
    {"include": (*BIASES, "allowed", "scale")},
    {"include": ("allowed",), "options": {"normalize": "double_softmax"}},
    {"include": ("bias", "softcap", "sink", "dropout"), "options": {"dropout_p": 0.3}},
    {"include": ("q_lengths", "k_lengths", "q_segments", "k_segments")},
    {"include": ("alibi_slopes", "relative_table"), "sizes": {"r": 8}, "options": {"causal": True, "align": 1}},
)


def definition(xp, q, k, v, w_q, w_k, w_v, w_o, b_q=None, b_k=None, b_v=None, b_o=None, **options):
    def project(x, w, b):
        features = xp.einsum("...tm,hmd->...htd", x, w)
        return features if b is None else features + b[:, None, :]

    heads = project(q, w_q, b_q), project(k, w_k, b_k), project(v, w_v, b_v)
    o, alpha, _ = rules["scaled_dot"].definition(xp, *heads, **options)
    y = xp.einsum("...hie,hey->...iy", o, w_o)
    return y if b_o is None else y + b_o, alpha


def forward(q, k, v, w_q, w_k, w_v, w_o, b_q=None, b_k=None, b_v=None, b_o=None, **options):
    heads = {"q": project(q, w_q, b_q), "k": project(k, w_k, b_k), "v": project(v, w_v, b_v)}
    attended = attend(rules["scaled_dot"], heads | options)
    o = merge_heads(attended.o)
    y = o @ blocks(w_o)
    tape = {"q": q, "k": k, "v": v, "w_q": w_q, "w_k": w_k, "w_v": w_v, "w_o": w_o, "attended": attended, "o": o}
    return (y if b_o is None else y + b_o, attended.alpha), tape


def backward(cotangents, *, q, k, v, w_q, w_k, w_v, w_o, attended, o):
    dy, dalpha = cotangents
    grads = {"w_o": outer_sum(o, dy).reshape(w_o.shape), "b_o": leading_sum(dy)}
    do = split_heads(dy @ blocks(w_o).T, *w_o.shape[:2])
    grads |= attended.backward(do, dalpha=dalpha)
    for name, x, w in (("q", q, w_q), ("k", k, w_k), ("v", v, w_v)):
        d = merge_heads(grads[name])
        grads[f"w_{name}"] = split_heads(outer_sum(attended_only(x, d), d), *w.shape[::2])
        grads[f"b_{name}"] = leading_sum(d).reshape(w.shape[::2])
        grads[name] = d @ merge_heads(w).T
    return grads


def attended_only(x, d):
    """x with zeros for the non-finite positions to which no gradient came: behind a mask they are no part of it."""
    if np.isfinite(x).all():
        return x
    return np.where(np.any(d != 0, axis=-1, keepdims=True), x, np.where(np.isfinite(x), x, 0)).astype(
        x.dtype, copy=False
    )


def project(x, w, b):
    """Every head's linear map of x: [... t m] to [... h t d]."""
    features = split_heads(x @ merge_heads(w), *w.shape[::2])
    return features if b is None else features + b[:, None, :]


def blocks(w_o):
    """The heads' output layers one below the other, [h·e y]."""
    h, e, y = w_o.shape
    return w_o.reshape(h * e, y)
