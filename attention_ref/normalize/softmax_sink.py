"""Softmax with a sink: one more score in every row, learned, whose weight goes to no key.

The sink is one number for each of the leading axes, such as (h,) for scores (b, h, i, j). In a row in which nothing
may be attended the sink takes all the weight; a sink of -inf leaves the plain softmax. The lse counts the sink.
"""

import numpy as np

SIGNATURE = "s[... i j] sink(...) -> alpha[... i j] lse[... i]"
FORMULA = r"\alpha_{ij} = e^{s_{ij}} / z_i, \quad z_i = \sum_k e^{s_{ik}} + e^{\sigma}, \quad \ell_i = \log z_i"
SOURCE = "Xiao et al. 2023 (StreamingLLM); OpenAI 2025 (gpt-oss: a learned sink per head)"


def definition(xp, s, sink):
    e = xp.exp(s)
    z = xp.sum(e, axis=-1, keepdims=True) + xp.exp(xp.reshape(sink, (*np.shape(sink), 1, 1)))
    empty = z == 0
    alpha = e / xp.where(empty, 1, z)
    lse = xp.where(empty, -np.inf, xp.log(xp.where(empty, 1, z)))
    return alpha, lse[..., 0]


def forward(s, sink):
    sink = sink[..., None, None]
    m = np.maximum(np.max(s.real, axis=-1, keepdims=True, initial=-np.inf), sink.real)
    m = np.where(np.isneginf(m), 0, m)
    e = np.exp(s - m)
    e_sink = np.exp(sink - m)
    z = np.sum(e, axis=-1, keepdims=True) + e_sink
    lse = np.log(z) + m
    z = np.where(z == 0, 1, z)
    alpha = e / z
    return (alpha, lse[..., 0]), {"alpha": alpha, "sink_alpha": e_sink / z}


def backward(cotangents, *, alpha, sink_alpha):
    dalpha, dlse = cotangents
    # the sink is a score like the others whose dalpha is 0: ds = alpha (dalpha - row), dsink = sink_alpha (0 - row)
    row = np.sum(dalpha * alpha, axis=-1, keepdims=True)
    if dlse is not None:
        row = row - dlse[..., None]
    return {"s": alpha * (dalpha - row), "sink": sink_backward(row, sink_alpha)}


def sink_backward(row, sink_alpha):
    """dsink, from what every row subtracts from dalpha and the sink's own weight, both [... i 1]."""
    return -np.sum(sink_alpha * row, axis=(-2, -1))
