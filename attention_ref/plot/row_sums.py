"""Whether the rows of alpha sum to 1; a row that attends to nothing sums to 0 and is right."""

import warnings

import numpy as np

from attention_ref.errors import OptionError
from attention_ref.plot import checks

WAYS = ("warn", "raise", "ignore")


def tolerance(dtype):
    """How far a sum may be off: what rounding every weight to a narrow type can do, or 0.001."""
    return 1e-2 if dtype.itemsize < 4 else 1e-3


def wrong_rows(grid, dtype):
    return np.flatnonzero(grid.alive & (np.abs(grid.sums - 1) > tolerance(dtype)))


def check_rows(owner, grid, dtype, way, where=""):
    """Report rows that do not sum to 1, and give the note for the plot."""
    checks.choice(owner, "check_rows", way, WAYS)
    wrong = wrong_rows(grid, dtype)
    if way == "ignore" or not wrong.size:
        return ""
    sums = grid.sums[wrong]
    between = f"{sums.min():.3g}" if sums.min() == sums.max() else f"{sums.min():.3g} to {sums.max():.3g}"
    many = f"{wrong.size} of {grid.shape[0]} rows sum" if wrong.size > 1 else f"row {wrong[0]} sums"
    sentence = f"{many} to {between}, not 1"
    if way == "raise":
        raise OptionError(f"{owner}: {where}{sentence}; the weights of a query must sum to 1 over its keys")
    warnings.warn(f"{owner}: {where}{sentence}", stacklevel=3)
    return sentence
