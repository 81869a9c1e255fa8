"""Log of the sum of the exponentials of a row: the normalizer of softmax, -inf where nothing may be attended."""

import numpy as np

SIGNATURE = "s[... i j] -> lse[... i]"
FORMULA = r"\ell_i = \log \sum_j e^{s_{ij}}"
SOURCE = "000 §3.1 (the logarithm of the denominator)"


def definition(xp, s):
    z = xp.sum(xp.exp(s), axis=-1)
    return xp.where(z == 0, -np.inf, xp.log(xp.where(z == 0, 1, z)))


def forward(s):
    m = np.max(s.real, axis=-1, keepdims=True, initial=-np.inf)
    shift = np.where(np.isneginf(m), 0, m)
    e = np.exp(s - shift)
    z = np.sum(e, axis=-1, keepdims=True)
    alpha = e / np.where(z == 0, 1, z)
    return (np.log(z) + shift)[..., 0], {"alpha": alpha}


def backward(dlse, *, alpha):
    return {"s": dlse[..., None] * alpha}
