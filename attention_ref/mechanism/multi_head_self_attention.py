"""Multi-head self-attention: every head attends over time with its share of the features, then one linear layer.

The linear layers are [out in]. The residual is added before the last layer, not after it, as code and text both say.
The gradient of b_k is identically zero, up to rounding: b_k adds the same number to every score of a row, and softmax
does not see a shift that is the same for every key.

Erratum, repaired. Printed: bmm of 4-D arrays that have time before heads, and a key whose time and heads are
swapped, which cannot run. Meant: every head attends over time by itself. What differs: heads stand before time in the
product, and are put back side by side after it.
"""

import numpy as np

from attention_ref.errors import OptionError
from attention_ref.mechanism.heads import merge_heads, split_heads
from attention_ref.op.arrays import leading_sum, outer_sum, shown
from attention_ref.pipeline.attention import attention
from attention_ref.pipeline.rule import rules

SIGNATURE = "x[... t m] w_q[m m] b_q[m] w_k[m m] b_k[m] w_v[m m] b_v[m] w_o[m m] b_o[m] -> y[... t m]"
FORMULA = (
    r"Y = ([O_1 ; \dots ; O_H] + X) W_o^\top + b_o, \quad O_h = \mathrm{softmax}(Q_h K_h^\top / \sqrt{m/H}) \, V_h"
)
SOURCE = "000 §4.1"
VARIANTS = ({"sizes": {"m": 6}, "options": {"heads": 2}}, {"sizes": {"m": 6}, "options": {"heads": 3}})


def definition(xp, x, w_q, b_q, w_k, b_k, w_v, b_v, w_o, b_o, heads):
    def project(w, b):
        features = xp.einsum("...tm,nm->...tn", x, w) + b
        apart = xp.reshape(features, (*x.shape[:-1], heads, x.shape[-1] // heads))
        return xp.einsum("...thd->...htd", apart)

    o, _, _ = rules["scaled_dot"].definition(xp, project(w_q, b_q), project(w_k, b_k), project(w_v, b_v))
    together = xp.reshape(xp.einsum("...htd->...thd", o), x.shape)
    return xp.einsum("...tm,nm->...tn", together + x, w_o) + b_o


def forward(x, w_q, b_q, w_k, b_k, w_v, b_v, w_o, b_o, heads):
    check_heads(heads, x.shape[-1])
    q, k, v = (split_heads(x @ w.T + b, heads, x.shape[-1] // heads) for w, b in ((w_q, b_q), (w_k, b_k), (w_v, b_v)))
    attended = attention(q, k, v)
    z = merge_heads(attended.o) + x
    tape = {"x": x, "w_q": w_q, "w_k": w_k, "w_v": w_v, "w_o": w_o, "attended": attended, "z": z}
    return z @ w_o.T + b_o, tape | {"heads": heads}


def backward(dy, *, x, w_q, w_k, w_v, w_o, attended, z, heads):
    dz = dy @ w_o
    g = attended.backward(split_heads(dz, heads, x.shape[-1] // heads))
    dq, dk, dv = (merge_heads(g[name]) for name in "qkv")
    grads = {"x": dz + dq @ w_q + dk @ w_k + dv @ w_v}
    for name, d, source in (("q", dq, x), ("k", dk, x), ("v", dv, x), ("o", dy, z)):
        grads |= {f"w_{name}": outer_sum(d, source), f"b_{name}": leading_sum(d)}
    return grads


def check_heads(heads, m):
    whole = isinstance(heads, (int, np.integer)) and not isinstance(heads, bool)
    if not (whole and heads > 0 and m % heads == 0):
        raise OptionError(f"heads={shown(heads)} must be a positive integer that divides m = {m}")
