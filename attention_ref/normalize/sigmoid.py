"""Sigmoid: every weight by itself, between 0 and 1; a row has no sum to keep."""

import numpy as np

SIGNATURE = "s[... i j] -> alpha[... i j]"
FORMULA = r"\alpha_{ij} = 1 / (1 + e^{-s_{ij}})"
ELEMENTWISE = True
SOURCE = "Ramapuram et al. 2024 (Theory, analysis, and best practices for sigmoid self-attention)"


def definition(xp, s):
    masked = xp.isneginf(xp.real(s))
    return xp.where(masked, 0, 1 / (1 + xp.exp(-xp.where(masked, 0, s))))


def forward(s):
    positive = s.real >= 0
    e = np.exp(np.where(positive, -s, s))
    return np.where(positive, 1, e) / (1 + e), {"slope": e / (1 + e) ** 2}


def backward(dalpha, *, slope):
    return {"s": dalpha * slope}
