"""Sigmoid: the gate of the GRU; e^x is taken on the side where it is at most one, so nothing overflows."""

import numpy as np

SIGNATURE = "x[...] -> y[...]"
FORMULA = r"y = 1 / (1 + e^{-x})"
SOURCE = "001 §5 (nn.GRU)"


def definition(xp, x):
    return 1 / (1 + xp.exp(-x))


def forward(x):
    negative = x.real < 0
    e = np.exp(np.where(negative, x, -x))
    y = np.where(negative, e, 1) / (1 + e)
    return y, {"y": y}


def backward(dy, *, y):
    return {"x": dy * y * (1 - y)}
