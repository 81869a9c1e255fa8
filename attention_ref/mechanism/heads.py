"""Between the features of all heads side by side, [... t h·d], and an axis of heads, [... h t d]."""

import numpy as np


def split_heads(x, heads, width):
    return np.swapaxes(x.reshape(*x.shape[:-1], heads, width), -3, -2)


def merge_heads(x):
    x = np.swapaxes(x, -3, -2)
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])
