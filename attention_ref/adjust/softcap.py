"""Softcap: the scores bent into the range from -softcap to softcap, unchanged near 0."""

import numpy as np

SIGNATURE = "s[... i j] softcap:positive(... i j) -> capped[... i j]"
FORMULA = r"s_{ij} \leftarrow \kappa \tanh(s_{ij} / \kappa)"
SOURCE = "Bello et al. 2016; Gemma Team 2024 (Gemma 2)"


def definition(xp, s, softcap):
    return softcap * xp.tanh(s / softcap)


def forward(s, softcap):
    x = s / softcap
    y = np.tanh(x)
    return softcap * y, {"x": x, "y": y}


def backward(dcapped, *, x, y):
    e = np.exp(np.where(x.real > 0, -2 * x, 2 * x))
    slope = 4 * e / (1 + e) ** 2
    return {"s": dcapped * slope, "softcap": dcapped * (y - np.where(slope == 0, 0, x * slope))}
