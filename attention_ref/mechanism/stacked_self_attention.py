"""Stacked self-attention: n layers of self-attention, each reading the one before; no residual between them.

The matrices are [in out], as in `self_attention`.
"""

import numpy as np

from attention_ref.mechanism import self_attention

SIGNATURE = "x[... t m] w_q[n m d] w_k[n m d] w_v[n m m] -> y[... t m]"
FORMULA = r"X^{(l)} = \mathrm{SelfAttention}(X^{(l-1)}; W_q^l, W_k^l, W_v^l), \quad Y = X^{(n)}"
SOURCE = "000 §2.2"


def definition(xp, x, w_q, w_k, w_v):
    for n in range(len(w_q)):
        x = self_attention.definition(xp, x, w_q[n], w_k[n], w_v[n])
    return x


def forward(x, w_q, w_k, w_v):
    layers = []
    for weights in zip(w_q, w_k, w_v, strict=True):
        x, taped = self_attention.forward(x, *weights)
        layers.append(taped)
    return x, {"layers": layers, "w_q": w_q, "w_k": w_k, "w_v": w_v}


def backward(dy, *, layers, w_q, w_k, w_v):
    dx = dy
    by_layer: list[dict] = []
    for taped in reversed(layers):
        g = self_attention.backward(dx, **taped)
        dx = g["x"]
        by_layer.insert(0, g)
    weights = {"w_q": w_q, "w_k": w_k, "w_v": w_v}
    return {"x": dx} | {name: np.array([g[name] for g in by_layer]).reshape(w.shape) for name, w in weights.items()}
