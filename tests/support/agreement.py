"""How far two arrays are apart, and the demand that they are not."""

import numpy as np

ROUNDING = 1e-12


def relative(got, want):
    """The largest difference over the largest value; infinite where the two are not finite in the same places."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    finite = np.isfinite(want)
    if not np.array_equal(got[~finite], want[~finite]) or not np.isfinite(got[finite]).all():
        return np.inf
    error, size = (np.max(np.abs(x[finite]), initial=0) for x in (got - np.where(finite, want, 0), want))
    return error / size if size else error


def agree(got, want, tolerance=ROUNDING):
    """Two dictionaries of arrays by name are equal to rounding, as far as they are wanted."""
    off = {name: relative(got[name], x) for name, x in want.items()}
    assert all(error <= tolerance for error in off.values()), {name: f"{error:.1e}" for name, error in off.items()}
