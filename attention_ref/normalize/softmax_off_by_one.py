"""Softmax off by one: a sink fixed at 0, so that a row may attend to nothing at all."""

import numpy as np

from attention_ref.normalize import softmax_sink

SIGNATURE = "s[... i j] -> alpha[... i j] lse[... i]"
FORMULA = r"\alpha_{ij} = e^{s_{ij}} / z_i, \quad z_i = 1 + \sum_k e^{s_{ik}}, \quad \ell_i = \log z_i"
SOURCE = "Miller 2023 (Attention is off by one)"
SINK = 0.0


def definition(xp, s):
    e = xp.exp(s)
    z = 1 + xp.sum(e, axis=-1, keepdims=True)
    return e / z, xp.log(z)[..., 0]


def forward(s):
    return softmax_sink.forward(s, np.full((), SINK, s.dtype))


def backward(cotangents, *, alpha, sink_alpha):
    return {"s": softmax_sink.backward(cotangents, alpha=alpha, sink_alpha=sink_alpha)["s"]}
