"""A row in which nothing may be attended, given the weights that another library gives it, as constants.

Here such a row has no weights, and this stage is left out. `fill` is NaN where the scores were softmaxed as they are,
and one over the number of keys where they were all the same large negative number.
"""

import numpy as np

from attention_ref.op.arrays import checked_number

SIGNATURE = "alpha[... i j] empty:bool(... i) -> filled[... i j]"
FORMULA = r"\alpha_{ij} \leftarrow c \text{ where row } i \text{ is empty}"
SOURCE = "conventions of other libraries"
VARIANTS = ({"options": {"fill": 0.25}},)


def definition(xp, alpha, empty, fill):
    return xp.where(empty[..., None], fill, alpha)


def forward(alpha, empty, fill):
    fill = checked_number("fill", fill)
    return np.where(empty[..., None], fill, alpha).astype(alpha.dtype, copy=False), {"empty": empty}


def backward(dfilled, *, empty):
    return {"alpha": np.where(empty[..., None], 0, dfilled)}
