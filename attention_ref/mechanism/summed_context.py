"""Summed context: the baseline without attention, the plain sum of the encoder's states."""

import numpy as np

from attention_ref.mechanism.lengths import real_steps

SIGNATURE = "h[... j d] lengths?<=j[...] -> c[... d]"
FORMULA = r"c = \sum_j h_j"
SOURCE = "001 §4"
VARIANTS = ({}, {"include": ("lengths",)})


def definition(xp, h, lengths=None):
    real = real_steps(lengths, h.shape[-2])[..., None]
    return xp.sum(xp.where(real, h + np.zeros(real.shape), 0), axis=-2)


def forward(h, lengths=None):
    real = real_steps(lengths, h.shape[-2])[..., None]
    return np.sum(np.where(real, h, 0), axis=-2), {"real": real}


def backward(dc, *, real):
    return {"h": np.where(real, dc[..., None, :], 0)}
