"""Whether the rows of alpha sum to 1; a row that attends to nothing sums to 0 and is right."""

import warnings

import numpy as np

from attention_ref.errors import OptionError
from attention_ref.plot.drawing import checks
from attention_ref.plot.drawing.reduction import Grid
from attention_ref.plot.drawing.states import SEEN

CHOICES = ("warn", "raise", "ignore")


def tolerance(dtype: np.dtype) -> float:
    """How far a sum may be off before a row is reported.

    Rounding every weight to float16 changes a sum of 1 by at most 2⁻¹¹ = 0.0005, and a kernel's own arithmetic in that
    type by several times as much. In wider types 0.001 is far beyond rounding, and a quarter of a step of 256 colors.
    """
    return 1e-2 if dtype.itemsize < 4 else 1e-3


def wrong_rows(grid: Grid, dtype: np.dtype) -> np.ndarray:
    return np.flatnonzero((grid.row_states == SEEN) & (np.abs(grid.sums - 1) > tolerance(dtype)))


def check_rows(owner: str, grids: dict[str, Grid], dtype: np.dtype, choice: str) -> str:
    """Report rows that do not sum to 1, and give the note for the plot; `grids` are by name, "" for the only one."""
    checks.choice(owner, "check_rows", choice, CHOICES)
    if choice == "ignore":
        return ""
    wrong = {name: wrong_rows(grid, dtype) for name, grid in grids.items()}
    wrong = {name: rows for name, rows in wrong.items() if rows.size}
    if not wrong:
        return ""
    sentence = sentence_about(grids, wrong)
    if choice == "raise":
        raise OptionError(f"{owner}: {sentence}; the weights of a query must sum to 1 over its keys")
    warnings.warn(f"{owner}: {sentence}", stacklevel=3)
    return sentence


def sentence_about(grids: dict[str, Grid], wrong: dict[str, np.ndarray]) -> str:
    sums = np.concatenate([grids[name].sums[rows] for name, rows in wrong.items()])
    low, high = f"{sums.min():.3g}", f"{sums.max():.3g}"
    between = low if low == high else f"{low} to {high}"
    if len(wrong) > 1:
        names = ", ".join(list(wrong)[:4]) + (" …" if len(wrong) > 4 else "")
        return f"{sums.size} rows in {names} sum to {between}, not 1"
    ((name, rows),) = wrong.items()
    prefix = f"{name}: " if name else ""
    if rows.size == 1:
        return f"{prefix}row {rows[0]} sums to {between}, not 1"
    return f"{prefix}{rows.size} of {grids[name].shape[0]} rows sum to {between}, not 1"
