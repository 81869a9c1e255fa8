"""Log-softmax: the logarithm of the softmax of the last axis, without leaving the logarithm."""

import numpy as np

SIGNATURE = "x[... v] -> logp[... v]"
FORMULA = r"\log p_i = x_i - \log \sum_k e^{x_k}"
SOURCE = "001 §5 (F.log_softmax)"


def definition(xp, x):
    return x - xp.log(xp.sum(xp.exp(x), axis=-1, keepdims=True))


def forward(x):
    shifted = x - np.max(x.real, axis=-1, keepdims=True, initial=-np.inf)
    e = np.exp(shifted)
    z = np.sum(e, axis=-1, keepdims=True)
    return shifted - np.log(z), {"p": e / z}


def backward(dlogp, *, p):
    return {"x": dlogp - p * np.sum(dlogp, axis=-1, keepdims=True)}
