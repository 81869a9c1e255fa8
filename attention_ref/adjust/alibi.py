"""ALiBi: a score loses in proportion to the distance of the key from the query, at a slope of its own in every head.

The slopes are one number for each of the leading axes, such as (h,) for scores (b, h, i, j).
"""

import numpy as np

SIGNATURE = "s[... i j] slopes(...) distance(... i j) -> biased[... i j]"
FORMULA = r"s_{ij} \leftarrow s_{ij} - m \, |j - (i + \text{offset})|"
SOURCE = "Press, Smith & Lewis 2021; on both sides of the query as in FlashAttention"


def definition(xp, s, slopes, distance):
    return s - xp.reshape(slopes, (*np.shape(slopes), 1, 1)) * distance


def forward(s, slopes, distance):
    slopes = slopes[..., None, None]
    return s - slopes * distance, {"slopes": slopes, "distance": distance}


def backward(dbiased, *, slopes, distance):
    return {
        "s": dbiased,
        "slopes": -np.sum(dbiased * distance, axis=(-2, -1)),
        "distance": -dbiased * slopes,
    }
