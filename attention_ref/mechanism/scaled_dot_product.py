"""Scaled dot-product attention as a layer of its own: queries, keys and values come in, the output goes out."""

from attention_ref.pipeline.attention import attention
from attention_ref.pipeline.rule import rules

SIGNATURE = "q[... i d] k[... j d] v[... j e] -> y[... i e]"
FORMULA = r"\mathrm{Attention}(Q, K, V) = \mathrm{softmax}(Q K^\top / \sqrt d) \, V"
SOURCE = "004 §1.3 (ScaledDotProductAttention)"


def definition(xp, q, k, v):
    return rules["scaled_dot"].definition(xp, q, k, v)[0]


def forward(q, k, v):
    attended = attention(q, k, v)
    return attended.o, {"attended": attended}


def backward(dy, *, attended):
    return attended.backward(dy)
