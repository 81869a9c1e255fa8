"""Scaled dot product: the inner product divided by the square root of the width.

With entries of variance 1 the inner product has variance d, and softmax would saturate; the division keeps it at 1.
"""

from math import sqrt

SCORE = "dot"
FORMULA = r"s_{ij} = q_i \cdot k_j / \sqrt d"
SOURCE = "000 §3.3, 002 rule 3, 003 §2, 004 §1.2"


def scale(q, sqrt=sqrt):
    return 1 / sqrt(max(q.shape[-1], 1))
