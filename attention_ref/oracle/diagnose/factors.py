"""Results that are off by one factor in all cases in which they are wrong, and errors that a factor makes."""

import numpy as np

from attention_ref.oracle.bounds.number_formats import widened

CONSTANTS = {"ln 2": np.log(2), "1/ln 2": 1 / np.log(2)}  # what is left out where exp2 stands for exp
SAME = 1e-2  # how far the factors of two cases may be apart, as a part of them and of what is off, and be one


def clauses(results, where=""):
    """The clause on each name in {name: [(got, want, bound), …]} that is off by one factor; where: in which places."""
    for name, some in results.items():
        factors = [factor(*one) for one in some]
        if None not in factors and max(factors) - min(factors) <= SAME * min(min(abs(c), abs(c - 1)) for c in factors):
            off = f"{times(factors[0])} what it should be{where}" if any(factors) else f"0{where or ' everywhere'}"
            yield f"{name} is {off}"


def times(c):
    if f"{c:.4g}" == "1":
        return f"1 {'-' if c < 1 else '+'} {abs(c - 1):.2g} times"
    meant = next((f" ({name})" for name, value in CONSTANTS.items() if abs(c - value) <= 1e-3 * value), "")
    return f"{c:.4g}{meant} times"


def factor(got, want, bound):
    """c where got is c * want to its bound; None where there is no such c, no bound, or got is right."""
    if bound is None or got.shape != want.shape or got.dtype.kind not in "fV":
        return None
    got, some = widened(got), np.isfinite(want)
    largest = np.max(np.abs(want), initial=0, where=some)
    if not largest or not np.isfinite(got[some]).all() or not np.array_equal(got[~some], want[~some], equal_nan=True):
        return None
    got, want, bound = got[some] / largest, want[some] / largest, np.broadcast_to(bound, want.shape)[some] / largest
    c = np.vdot(want, got) / np.vdot(want, want)
    fits = (np.abs(got - c * want) <= max(1, abs(c)) * bound).all()
    return c if fits and (np.abs(got - want) > bound).any() else None


def share(errors):
    """How much of the errors of one result one factor would make, 0 to 1: next to nothing of what rounding makes.

    `errors` are (error, want) of each case, in which what is not finite counts for nothing.
    """
    along = energy = wanted = 0.0
    for error, want in errors:
        want = np.where(np.isfinite(want), want, 0)
        largest = np.max(np.abs(want), initial=0)
        if largest:
            e, w = error / largest, want / largest
            along, energy, wanted = along + np.vdot(e, w), energy + np.vdot(e, e), wanted + np.vdot(w, w)
    return along**2 / (energy * wanted) if energy else 0.0
