"""Rotary embedding: the pairs of features of a position turn by angles in proportion to that position.

The first 2r of the d features turn, in r pairs, the others pass: feature m is paired with m + r or, interleaved, 2m
with 2m + 1. As every angle grows linearly, the inner product of a query and a key depends on how far apart they are.
"""

import numpy as np

from attention_ref.errors import OptionError, ShapeError
from attention_ref.op.arrays import checked_flag

SIGNATURE = "x[... t d] cos[... t r] sin[... t r] -> y[... t d]"
FORMULA = r"(y_{m}, y_{m'}) = (x_m \cos_m - x_{m'} \sin_m, \; x_{m'} \cos_m + x_m \sin_m)"
SOURCE = "Su et al. 2021 (RoFormer); in halves as in GPT-NeoX; ONNX RotaryEmbedding"
VARIANTS = (
    {},
    {"options": {"interleaved": True}},
    {"sizes": {"d": 6, "r": 3}},
    {"sizes": {"d": 6, "r": 3}, "options": {"interleaved": True}},
)


def definition(xp, x, cos, sin, interleaved=False):
    d, r = x.shape[-1], cos.shape[-1]
    first = [2 * m if interleaved else m for m in range(r)]
    second = [m + 1 if interleaved else m + r for m in first]
    order = first + second + list(range(2 * r, d))
    a, b = x[..., first], x[..., second]
    one = xp.ones((*np.shape(cos)[:-1], 1))
    turned = xp.concatenate([a * cos - b * sin, a * sin + b * cos, x[..., 2 * r :] * one], axis=-1)
    return turned[..., np.argsort(order)]


def forward(x, cos, sin, interleaved=False):
    checked_flag("interleaved", interleaved)
    a, b, rest = split(x, cos.shape[-1], interleaved)
    y = join(a * cos - b * sin, a * sin + b * cos, rest, interleaved)
    return y, {"a": a, "b": b, "cos": cos, "sin": sin, "interleaved": interleaved}


def backward(dy, *, a, b, cos, sin, interleaved):
    da, db, drest = split(dy, cos.shape[-1], interleaved)
    dx = join(da * cos + db * sin, db * cos - da * sin, drest, interleaved)
    return {"x": dx, "cos": da * a + db * b, "sin": db * a - da * b}


def split(x, r, interleaved):
    """(first of every pair, second of every pair, what does not turn)"""
    if 2 * r > x.shape[-1]:
        raise ShapeError(f"adjust.rotary: cos and sin turn 2 r = {2 * r} features, and x has only d = {x.shape[-1]}")
    if interleaved:
        return x[..., 0 : 2 * r : 2], x[..., 1 : 2 * r : 2], x[..., 2 * r :]
    return x[..., :r], x[..., r : 2 * r], x[..., 2 * r :]


def join(a, b, rest, interleaved):
    y = np.empty((*a.shape[:-1], 2 * a.shape[-1] + rest.shape[-1]), a.dtype)
    for part, values in zip(split(y, a.shape[-1], interleaved), (a, b, rest), strict=True):
        part[...] = values
    return y


def rotary_angles(positions, width, base=10000.0):
    """(cos, sin), each [... t width/2], of the angles position * base**(-2 m / width), for `width` features."""
    if width % 2:
        raise OptionError(f"rotary_angles: width must be even, features turn in pairs; got {width}")
    angles = np.asarray(positions)[..., None] * base ** (-np.arange(0, width, 2) / max(width, 1))
    return np.cos(angles), np.sin(angles)
