"""Dot product normalized twice, as printed: the energies are already a softmax, and softmax is taken of them again.

Erratum. Printed: e = softmax(score), then alpha = softmax(e). Meant: e is the score itself. What differs: with
n keys the energies lie between 0 and 1, so no weight can exceed e / (e + n - 1), however clear the best key is.
"""

SCORE = "dot"
NORMALIZE = "double_softmax"
FORMULA = r"\alpha_{ij} = \mathrm{softmax}_j(\mathrm{softmax}_j(q_i \cdot k_j))"
SOURCE = "000 §3.1, as printed"
ERRATUM = "softmax is taken twice"
