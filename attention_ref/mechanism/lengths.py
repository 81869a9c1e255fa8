"""Lengths: which steps of padded sequences are real."""

import numpy as np


def real_steps(lengths, n):
    """True for each of the n steps that is in front of the length; without lengths every step is."""
    return np.ones(n, dtype=bool) if lengths is None else np.arange(n) < lengths[..., None]


def leading_axes(*arrays):
    """What the axes in front of the last broadcast to."""
    return np.broadcast_shapes(*[x.shape[:-1] for x in arrays])
