"""One result against what it should be: shape, dtype, where it is finite, then the values. It fails closed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from attention_ref.oracle.bounds.number_formats import find, widened
from attention_ref.oracle.run.localize import Place, SampledPlace, describe
from attention_ref.oracle.run.trouble import Trouble, TroubleKind

VALUES: dict[str, Callable] = {"nan": np.isnan, "inf": np.isposinf, "-inf": np.isneginf}


@dataclass(frozen=True)
class Worst:
    """The element that is furthest off for its bound."""

    index: tuple
    got: float
    want: float
    error: float
    ulps: float
    bound: float
    score: float
    term: str = ""


@dataclass(frozen=True)
class Comparison:
    """The verdict on one result of one run: "pass", or that of what is wrong with it.

    `known` are the sentences of the known deviations that together account for it.
    """

    result: str
    trouble: Trouble | None = None
    worst: Worst | None = None
    wrong: int = 0
    size: int = 0
    place: Place | SampledPlace | None = None
    band: float | None = None
    varies: bool = False
    known: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        return self.trouble.verdict if self.trouble else "pass"

    @property
    def sentence(self) -> str:
        return self.trouble.sentence if self.trouble else ""

    @property
    def where(self) -> str:
        return describe(self.place)


@dataclass(frozen=True)
class Wanted:
    """What a result should be: the values in float64, the bound on each, the dtypes it may have."""

    value: np.ndarray
    delta: np.ndarray
    fmt: object
    dtypes: tuple


def compare(result, got, wanted):
    """(Comparison, boolean array of the wrong elements or None)."""
    want, delta = wanted.value, np.broadcast_to(wanted.delta, wanted.value.shape)
    if got.shape != want.shape:
        facts = {"result": result, "got": got.shape, "want": want.shape}
        return Comparison(result, Trouble(TroubleKind.SHAPE, facts)), None
    if got.dtype not in wanted.dtypes:
        facts = {"result": result, "got": got.dtype.name, "dtypes": tuple(dtype.name for dtype in wanted.dtypes)}
        return Comparison(result, Trouble(TroubleKind.DTYPE, facts)), None
    fmt = find(got.dtype)
    if len(wanted.dtypes) > 1 and fmt == wanted.fmt:
        # Bounded in the wide format, returned in the narrow one: one rounding more.
        delta = delta + fmt.ulp(np.where(np.isfinite(want), want, 0))
    got = widened(got)
    trouble, wrong = unlike_values(result, got, want, delta)
    with np.errstate(all="ignore"):
        error = np.abs(got - want)
        same = (got == want) | (np.isnan(got) & np.isnan(want))
        wrong |= ~(error <= delta) & ~same & ~np.isposinf(delta)
        score = np.where(same, 0, np.where(wrong & ~np.isfinite(error), np.inf, error / delta))
        score = np.where(np.isposinf(delta) & ~wrong, 0, score)
    worst = worst_of(got, want, delta, score, fmt) if want.size else None
    count = int(np.count_nonzero(wrong))
    if not count or worst is None:
        return Comparison(result, None, worst, 0, want.size), wrong
    trouble = trouble or Trouble(TroubleKind.OUT_OF_BOUND, {"result": result, "score": worst.score})
    return Comparison(result, trouble, worst, count, want.size), wrong


def unlike_values(result, got, want, delta):
    """(the Trouble with NaN, inf or -inf where it should not be or not where it should, or None; where that is)."""
    wrong = np.zeros(want.shape, bool)
    first = None
    for value, test in VALUES.items():
        unexpected = test(got) & ~test(want) & ~np.isposinf(delta)
        missing = test(want) & ~test(got)
        for kind, where in ((TroubleKind.UNEXPECTED_VALUE, unexpected), (TroubleKind.MISSING_VALUE, missing)):
            if first is None and where.any():
                count = int(np.count_nonzero(where))
                first = Trouble(kind, {"result": result, "value": value, "count": count, "size": want.size})
        wrong |= unexpected | missing
    return first, wrong


def worst_of(got, want, delta, score, fmt):
    place = np.unravel_index(np.argmax(np.where(np.isnan(score), np.inf, score)), score.shape)
    index = tuple(int(i) for i in place)
    here, right = float(got[index]), float(want[index])
    error = abs(here - right) if here != right else 0.0
    ulps = error / float(fmt.ulp(right)) if np.isfinite(right) else error
    return Worst(index, here, right, error, ulps, float(delta[index]), float(score[index]))
