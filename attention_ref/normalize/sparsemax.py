"""Sparsemax: the point of the simplex nearest to the scores; most of its weights are exactly 0.

The weights are the scores less a threshold tau, where they are above it. forward finds tau by sorting; the definition
asks every score by itself: it is above tau if the greater scores exceed it by less than 1 in all.
"""

import numpy as np

SIGNATURE = "s[... i j] -> alpha[... i j]"
FORMULA = r"\alpha_{ij} = \max(s_{ij} - \tau_i, 0), \quad \tau_i \text{ such that } \sum_j \alpha_{ij} = 1"
SOURCE = "Martins & Astudillo 2016"


def definition(xp, s):
    above = counted_above(xp, s, power=1)
    n = xp.sum(above, axis=-1, keepdims=True)
    tau = (xp.sum(xp.where(above, s, 0), axis=-1, keepdims=True) - 1) / xp.where(n == 0, 1, n)
    return xp.where(xp.real(s) <= xp.real(tau), 0, xp.where(xp.isneginf(xp.real(s)), 0, s) - tau)


def counted_above(xp, s, power):
    """Which scores are above the threshold: those that the greater ones exceed by less than 1, summed by a power."""
    real = xp.real(s)
    allowed = ~xp.isneginf(real)
    excess = xp.maximum(real[..., None, :] - xp.where(allowed, real, 0)[..., :, None], 0)
    return allowed & ~(xp.sum(excess**power, axis=-1) >= 1)


def forward(s):
    s = shifted(s)
    tau = threshold(s)
    alpha = np.where(s.real <= tau.real, 0, s - tau)
    return alpha, {"support": np.where(alpha.real > 0, 1, alpha.real)}


def backward(dalpha, *, support):
    n = np.sum(support, axis=-1, keepdims=True)
    mean = np.sum(support * dalpha, axis=-1, keepdims=True) / np.where(n == 0, 1, n)
    return {"s": support * (dalpha - mean)}


def shifted(s):
    """The scores less the greatest of the row, which changes no weight."""
    m = np.max(s.real, axis=-1, keepdims=True, initial=-np.inf)
    return s - np.where(np.isneginf(m), 0, m)


def descending(s):
    """(the scores of each row from the greatest to the least, by their real parts; the ranks 1, 2, …)"""
    order = np.argsort(-s.real, axis=-1, kind="stable")
    return np.take_along_axis(s, order, axis=-1), np.arange(1, s.shape[-1] + 1, dtype=s.real.dtype)


def threshold(s):
    """tau: the first k scores are above it, for the greatest k at which the k-th still is."""
    z, k = descending(s)
    above = 1 + k * z.real > np.cumsum(z.real, axis=-1)
    n = np.sum(above, axis=-1, keepdims=True, dtype=k.dtype)
    return (np.sum(np.where(above, z, 0), axis=-1, keepdims=True) - 1) / np.where(n == 0, 1, n)
