"""Softmax of softmax, both over the allowed keys only, as the first text prints it.

There is no lse: the normalizer of the second softmax is not one of the scores. A weight of the first softmax that is
zero because its key is not allowed must stay out of the second, so its energy is -inf and not 0.
"""

import numpy as np

from attention_ref.normalize import softmax

SIGNATURE = "s[... i j] -> alpha[... i j]"
FORMULA = r"\alpha_i = \mathrm{softmax}(\mathrm{softmax}(s_i))"
SOURCE = "000 §3.1, as printed"
ERRATUM = "softmax is taken twice"


def definition(xp, s):
    energy = xp.where(xp.isneginf(xp.real(s)), -np.inf, softmax.definition(xp, s)[0])
    return softmax.definition(xp, energy)[0]


def forward(s):
    (first, _), _ = softmax.forward(s)
    energy = np.where(np.isneginf(s.real), -np.inf, first).astype(first.dtype, copy=False)
    (alpha, _), _ = softmax.forward(energy)
    return alpha, {"first": first, "alpha": alpha}


def backward(dalpha, *, first, alpha):
    denergy = softmax.backward((dalpha, None), alpha=alpha)["s"]
    return softmax.backward((denergy, None), alpha=first)
