"""One result against what it should be: shape, dtype, where it is finite, then the values. It fails closed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from attention_ref.oracle.bounds.number_formats import find, widened

KINDS: dict[str, Callable] = {"nan": np.isnan, "inf": np.isposinf, "-inf": np.isneginf}


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
    """The verdict on one result of one run."""

    result: str
    verdict: str
    sentence: str = ""
    worst: Worst | None = None
    wrong: int = 0
    size: int = 0
    where: str = ""
    band: float | None = None
    varies: bool = False


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
        return failed(result, f"{result} has shape {got.shape}, expected {want.shape}"), None
    if got.dtype not in wanted.dtypes:
        expected = " or ".join(dtype.name for dtype in wanted.dtypes)
        return failed(result, f"{result} has dtype {got.dtype.name}, expected {expected}"), None
    fmt = find(got.dtype)
    if len(wanted.dtypes) > 1 and fmt == wanted.fmt:
        delta = delta + fmt.ulp(
            np.where(np.isfinite(want), want, 0)
        )  # bounded in the wide format, returned in the narrow one
    got = widened(got)
    sentence, wrong = wrong_kind(result, got, want, delta)
    with np.errstate(all="ignore"):
        error = np.abs(got - want)
        same = (got == want) | (np.isnan(got) & np.isnan(want))
        wrong |= ~(error <= delta) & ~same & ~np.isposinf(delta)
        score = np.where(same, 0, np.where(wrong & ~np.isfinite(error), np.inf, error / delta))
        score = np.where(np.isposinf(delta) & ~wrong, 0, score)
    worst = worst_of(got, want, delta, score, fmt) if want.size else None
    count = int(np.count_nonzero(wrong))
    if not count or worst is None:
        return Comparison(result, "pass", "", worst, 0, want.size), wrong
    sentence = sentence or f"{result} is off by {worst.score:.3g} times its bound"
    return Comparison(result, "fail", sentence, worst, count, want.size), wrong


def failed(result, sentence):
    return Comparison(result, "fail", sentence)


def wrong_kind(result, got, want, delta):
    """(a sentence about what is not finite where it should be, or the other way, and where that is)."""
    wrong = np.zeros(want.shape, bool)
    sentences = []
    for name, test in KINDS.items():
        more = test(got) & ~test(want) & ~np.isposinf(delta)
        less = test(want) & ~test(got)
        for count, text in ((more, f"is {name}, where it should not be,"), (less, f"is not {name}, as it should be,")):
            if count.any():
                sentences.append(f"{result} {text} at {np.count_nonzero(count)} of {want.size} elements")
        wrong |= more | less
    return sentences[0] if sentences else "", wrong


def worst_of(got, want, delta, score, fmt):
    place = np.unravel_index(np.argmax(np.where(np.isnan(score), np.inf, score)), score.shape)
    index = tuple(int(i) for i in place)
    here, right = float(got[index]), float(want[index])
    error = abs(here - right) if here != right else 0.0
    ulps = error / float(fmt.ulp(right)) if np.isfinite(right) else error
    return Worst(index, here, right, error, ulps, float(delta[index]), float(score[index]))
