"""Log of the sum of the exponentials of a row and its sink: the normalizer of softmax.

-inf where nothing may be attended and there is no sink.
"""

import numpy as np

SIGNATURE = "s[... i j] sink?(...) -> lse[... i]"
FORMULA = r"\ell_i = \log (\sum_j e^{s_{ij}} + e^{\sigma})"
SOURCE = "000 §3.1 (the logarithm of the denominator); the sink as in softmax_sink"
VARIANTS = ({}, {"include": ("sink",)})


def definition(xp, s, sink=None):
    z = xp.sum(xp.exp(s), axis=-1)
    if sink is not None:
        z = z + xp.exp(xp.reshape(sink, (*np.shape(sink), 1)))
    return xp.where(z == 0, -np.inf, xp.log(xp.where(z == 0, 1, z)))


def forward(s, sink=None):
    sink = np.full((1, 1), -np.inf, s.dtype) if sink is None else sink[..., None, None]
    m = np.maximum(np.max(s.real, axis=-1, keepdims=True, initial=-np.inf), sink.real)
    shift = np.where(np.isneginf(m), 0, m)
    e, rest = np.exp(s - shift), np.exp(sink - shift)
    z = np.sum(e, axis=-1, keepdims=True) + rest
    lse = (np.log(z) + shift)[..., 0]
    z = np.where(z == 0, 1, z)
    return lse, {"alpha": e / z, "rest": rest / z}


def backward(dlse, *, alpha, rest):
    return {"s": dlse[..., None] * alpha, "sink": np.sum(dlse[..., None] * rest, axis=(-2, -1))}
