"""Entmax with alpha = 1.5: between softmax and sparsemax, sparse, and smooth where it becomes so.

The weights are the squares of half the scores less a threshold tau, where they are above it. Given which are above, tau
is the smaller root of a quadratic. forward finds which by sorting; the definition asks every score by itself.
"""

import numpy as np

from attention_ref.normalize.sparsemax import counted_above, descending, shifted

SIGNATURE = "s[... i j] -> alpha[... i j]"
FORMULA = r"\alpha_{ij} = \max(s_{ij} / 2 - \tau_i, 0)^2, \quad \tau_i \text{ such that } \sum_j \alpha_{ij} = 1"
SOURCE = "Peters, Niculae & Martins 2019"


def definition(xp, s):
    x = s / 2
    above = counted_above(xp, x, power=2)
    n = xp.sum(above, axis=-1, keepdims=True)
    n = xp.where(n == 0, 1, n)
    chosen = xp.where(above, x, 0)
    total = xp.sum(chosen, axis=-1, keepdims=True)
    squares = xp.sum(chosen**2, axis=-1, keepdims=True)
    tau = (total - xp.sqrt(total**2 - n * (squares - 1))) / n
    return xp.where(xp.real(x) <= xp.real(tau), 0, xp.where(xp.isneginf(xp.real(x)), 0, x) - tau) ** 2


def forward(s):
    x = shifted(s) / 2
    tau = threshold(x)
    root = np.where(x.real <= tau.real, 0, x - tau)
    return root * root, {"root": root}


def backward(dalpha, *, root):
    total = np.sum(root, axis=-1, keepdims=True)
    mean = np.sum(root * dalpha, axis=-1, keepdims=True) / np.where(total == 0, 1, total)
    return {"s": root * (dalpha - mean)}


def threshold(x):
    """tau: the first k are above it, for the greatest k at which the k-th is above the root that they give."""
    z, k = descending(x)
    mean = np.cumsum(z.real, axis=-1) / k
    spread = np.cumsum(z.real**2, axis=-1) - k * mean**2
    above = z.real > mean - np.sqrt(np.maximum(1 - spread, 0) / k)
    n = np.sum(above, axis=-1, keepdims=True, dtype=k.dtype)
    n = np.where(n == 0, 1, n)
    mean = np.sum(np.where(above, z, 0), axis=-1, keepdims=True) / n
    spread = np.sum(np.where(above, (z - mean) ** 2, 0), axis=-1, keepdims=True)
    return mean - np.sqrt((1 - spread) / n)
