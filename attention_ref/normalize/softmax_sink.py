"""Softmax with a sink: one more score in every row, learned, whose weight goes to no key.

The sink is one number for each of the leading axes, such as (h,) for scores (b, h, i, j). In a row in which nothing
may be attended the sink takes all the weight; a sink of -inf leaves the plain softmax.
"""

import numpy as np

SIGNATURE = "s[... i j] sink(...) -> alpha[... i j]"
FORMULA = r"\alpha_{ij} = e^{s_{ij}} / (\sum_k e^{s_{ik}} + e^{\sigma})"
SOURCE = "Xiao et al. 2023 (StreamingLLM); OpenAI 2025 (gpt-oss: a learned sink per head)"
LSE = True


def definition(xp, s, sink):
    e = xp.exp(s)
    z = xp.sum(e, axis=-1, keepdims=True) + xp.exp(xp.reshape(sink, (*np.shape(sink), 1, 1)))
    return e / xp.where(z == 0, 1, z)


def forward(s, sink):
    sink = sink[..., None, None]
    m = np.maximum(np.max(s.real, axis=-1, keepdims=True, initial=-np.inf), sink.real)
    shift = np.where(np.isneginf(m), 0, m)
    e, rest = np.exp(s - shift), np.exp(sink - shift)
    z = np.sum(e, axis=-1, keepdims=True) + rest
    z = np.where(z == 0, 1, z)
    alpha = e / z
    return alpha, {"alpha": alpha, "rest": rest / z}


def backward(dalpha, *, alpha, rest):
    along = np.sum(dalpha * alpha, axis=-1, keepdims=True)
    return {"s": alpha * (dalpha - along), "sink": sink_backward(along, rest)}


def sink_backward(along, rest):
    """dsink, from the rows' sums of dalpha * alpha and the sink's own weights."""
    return -np.sum(rest * along, axis=(-2, -1))
