"""Self-attention: queries, keys and values are three linear maps of the same sequence, and the dot is scaled.

The three matrices are [in out], as the text writes X W.
"""

from attention_ref.op.arrays import outer_sum
from attention_ref.pipeline.attention import attention
from attention_ref.pipeline.rule import rules

SIGNATURE = "x[... t m] w_q[m d] w_k[m d] w_v[m e] -> y[... t e]"
FORMULA = r"Y = \mathrm{softmax}(X W_q (X W_k)^\top / \sqrt d) \, X W_v"
SOURCE = "000 §3.1–3.3"


def definition(xp, x, w_q, w_k, w_v):
    q, k, v = (xp.einsum("...tm,md->...td", x, w) for w in (w_q, w_k, w_v))
    return rules["scaled_dot"].definition(xp, q, k, v)[0]


def forward(x, w_q, w_k, w_v):
    attended = attention(x @ w_q, x @ w_k, x @ w_v)
    return attended.o, {"x": x, "w_q": w_q, "w_k": w_k, "w_v": w_v, "attended": attended}


def backward(dy, *, x, w_q, w_k, w_v, attended):
    g = attended.backward(dy)
    dx = g["q"] @ w_q.T + g["k"] @ w_k.T + g["v"] @ w_v.T
    return {"x": dx, "w_q": outer_sum(x, g["q"]), "w_k": outer_sum(x, g["k"]), "w_v": outer_sum(x, g["v"])}
