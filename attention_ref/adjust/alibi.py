"""ALiBi: a score loses in proportion to the distance of the key from the query, at a slope of its own in every head.

The slopes are one number for each of the leading axes, such as (h,) for scores (b, h, i, j).
"""

import numpy as np

SIGNATURE = "s[... i j] alibi_slopes(...) distance(... i j) -> biased[... i j]"
FORMULA = r"s_{ij} \leftarrow s_{ij} - m \, |j - (i + \text{offset})|"
SOURCE = "Press, Smith & Lewis 2021; on both sides of the query as in FlashAttention"


def definition(xp, s, alibi_slopes, distance):
    return s - xp.reshape(alibi_slopes, (*np.shape(alibi_slopes), 1, 1)) * distance


def forward(s, alibi_slopes, distance):
    slopes = alibi_slopes[..., None, None]
    return s - slopes * distance, {"slopes": slopes, "distance": distance}


def backward(dbiased, *, slopes, distance):
    return {
        "s": dbiased,
        "alibi_slopes": -np.sum(dbiased * distance, axis=(-2, -1)),
        "distance": -dbiased * slopes,
    }
