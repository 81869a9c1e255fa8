"""The stages between score and softmax, on numbers known up to an error: forward, and backward as forward reversed."""

import numpy as np


def scale_forward(s, scale):
    return s * scale, {"s": s, "scale": scale}


def scale_backward(dscaled, *, s, scale):
    return dscaled * scale, {"scale": dscaled * s}


def softcap_forward(s, softcap):
    cap = softcap[..., None, None]
    ratio = s / cap
    t = np.tanh(ratio)
    return cap * t, {"ratio": ratio, "t": t}


def softcap_backward(dcapped, *, ratio, t):
    slope = (1 - t * t).settled()
    return dcapped * slope, {"softcap": dcapped * (t - ratio * slope).settled()}


def bias_forward(s, bias):
    return s + bias, {}


def bias_backward(dbiased):
    return dbiased, {"bias": dbiased}


def alibi_forward(s, alibi_slopes, distance):
    return s - alibi_slopes[..., None, None] * distance, {"distance": distance}


def alibi_backward(dbiased, *, distance):
    return dbiased, {"alibi_slopes": -(dbiased * distance)}
