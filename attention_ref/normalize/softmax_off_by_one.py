"""Softmax off by one: a sink fixed at 0, so that a row may attend to nothing at all."""

import numpy as np

from attention_ref.normalize import softmax_sink

SIGNATURE = "s[... i j] -> alpha[... i j]"
FORMULA = r"\alpha_{ij} = e^{s_{ij}} / (1 + \sum_k e^{s_{ik}})"
SOURCE = "Miller 2023 (Attention is off by one)"
LSE = True


def definition(xp, s):
    e = xp.exp(s)
    return e / (1 + xp.sum(e, axis=-1, keepdims=True))


def sink(s):
    return np.zeros((), s.dtype)


def forward(s):
    return softmax_sink.forward(s, sink(s))


def backward(dalpha, *, alpha, rest):
    return {"s": softmax_sink.backward(dalpha, alpha=alpha, rest=rest)["s"]}
