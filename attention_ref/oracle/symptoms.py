"""What the failing runs of a check have in common, in a sentence, whatever the mistake may be."""

import numpy as np

from attention_ref.oracle.form import failing_results, foreign
from attention_ref.oracle.formats import widened
from attention_ref.oracle.localize import in_common

TOLD = 3
SAME = 1e-2  # how far the factors of two cases may be apart, as a part of them and of what is off, and be one


def symptoms(runs):
    """The sentence; "" where nothing fails."""
    failing = [run for run in runs if run.verdict in ("fail", "error")]
    if not failing:
        return ""
    parts = [*multiples(failing), in_common(runs), *places(failing)]
    stages = list(dict.fromkeys(run.stage for run in failing if run.stage))
    sentence = "; ".join(part for part in [*parts, *stages[:1]] if part)
    return sentence or "no flag, size or place separates the failing cases from the others"


def multiples(runs):
    """What is wrong by one factor, in all cases in which it is wrong."""
    found = {}
    for name, got, want, run, _ in failing_results(runs):
        found.setdefault(name, []).append(factor(got, want, run.evidence["bounds"][name]))
    for name, factors in found.items():
        if None not in factors and max(factors) - min(factors) <= SAME * min(min(abs(c), abs(c - 1)) for c in factors):
            yield f"{name} is {times(factors[0])} what it should be" if any(factors) else f"{name} is 0 everywhere"


def times(c):
    return f"{c:.4g} times" if f"{c:.4g}" != "1" else f"1 {'-' if c < 1 else '+'} {abs(c - 1):.2g} times"


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


def at_samples(runs):
    """What is wrong in each failing sample, its dtypes aside: long cases are too few for what they have in common."""
    sampled = [run for run in runs if run.verdict == "fail" and run.sample]
    told = list(multiples(sampled))
    for run in sampled:
        got, wrong = run.evidence["got"], [found for found in run.results if found.verdict == "fail"]
        wrong = [c for c in wrong if c.result not in got or not foreign(c.result, got[c.result], run)]
        clauses = [f"{found.result} is wrong {found.where}" if found.where else found.sentence for found in wrong]
        told += [f"{'; '.join(clauses)} ({run.case}, {run.dtype})"] if clauses else []
    return told[:TOLD] + [f"{len(told) - TOLD} more below"] * (len(told) > TOLD)


def places(failing):
    """The places that come up in several cases, the most frequent first."""
    cases = {}
    for run in failing:
        for found in run.results:
            place = found.where.partition(", only in ")[2] or found.where.partition(" elements: ")[2]
            if place:
                cases.setdefault(f"{found.result} is wrong in {place}", set()).add(run.case)
    often = sorted((len(names), place) for place, names in cases.items() if len(names) > 1)[::-1]
    return [f"{place} ({n} cases)" for n, place in often[:TOLD]]
