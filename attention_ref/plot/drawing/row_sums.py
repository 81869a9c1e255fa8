"""Whether the rows of alpha sum to 1; a row that attends to nothing sums to 0 and is right."""

import warnings

import numpy as np

from attention_ref.errors import OptionError
from attention_ref.plot.drawing import checks

WAYS = ("warn", "raise", "ignore")


def tolerance(dtype):
    """How far a sum may be off: what rounding every weight to a narrow type can do, or 0.001."""
    return 1e-2 if dtype.itemsize < 4 else 1e-3


def wrong_rows(grid, dtype):
    return np.flatnonzero(grid.alive & (np.abs(grid.sums - 1) > tolerance(dtype)))


def check_rows(owner, grids, dtype, way):
    """Report rows that do not sum to 1, and give the note for the plot; `grids` are by name, "" for the only one."""
    checks.choice(owner, "check_rows", way, WAYS)
    wrong = {name: wrong_rows(grid, dtype) for name, grid in grids.items()} if way != "ignore" else {}
    wrong = {name: rows for name, rows in wrong.items() if rows.size}
    if not wrong:
        return ""
    sentence = said(grids, wrong)
    if way == "raise":
        raise OptionError(f"{owner}: {sentence}; the weights of a query must sum to 1 over its keys")
    warnings.warn(f"{owner}: {sentence}", stacklevel=3)
    return sentence


def said(grids, wrong):
    sums = np.concatenate([grids[name].sums[rows] for name, rows in wrong.items()])
    low, high = f"{sums.min():.3g}", f"{sums.max():.3g}"
    between = low if low == high else f"{low} to {high}"
    (name, rows), *others = wrong.items()
    if others:
        where = ", ".join(list(wrong)[:4]) + (" …" if len(wrong) > 4 else "")
        return f"{sums.size} rows in {where} sum to {between}, not 1"
    many = f"{rows.size} of {grids[name].shape[0]} rows sum" if rows.size > 1 else f"row {rows[0]} sums"
    return f"{name + ': ' if name else ''}{many} to {between}, not 1"
