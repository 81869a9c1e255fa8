"""Embedding: every token looks up its row of a table.

Backward sums the cotangents of equal tokens: sorted by token they lie side by side.
"""

import numpy as np

from attention_ref.op.arrays import reduce_to

SIGNATURE = "tokens<v[...] embedding[v m] -> x[... m]"
FORMULA = r"x_i = E_{\mathrm{token}_i}"
SOURCE = "001 §5 (nn.Embedding)"


def definition(xp, tokens, embedding):
    return embedding[tokens]


def forward(tokens, embedding):
    return embedding[tokens], {"tokens": tokens, "rows": embedding.shape[0]}


def backward(dx, *, tokens, rows):
    width = dx.shape[-1]
    dx = reduce_to(dx, (*tokens.shape, width)).reshape(tokens.size, width)
    order = np.argsort(tokens, axis=None, kind="stable")
    found, starts = np.unique(tokens.reshape(-1)[order], return_index=True)
    dembedding = np.zeros((rows, width), dx.dtype)
    dembedding[found] = np.add.reduceat(dx[order], starts, axis=0)
    return {"embedding": dembedding}
