"""The deviations that a library is known for: seen again, they do not fail; no longer seen, they are reported.

A deviation explains a result only if it makes the result: held against the oracle under the deviation's own convention,
what came must be right, everywhere, to its bound.
"""

from dataclasses import replace
from functools import cached_property, partial
from itertools import combinations

import numpy as np

from attention_ref.oracle.cases.case import folded
from attention_ref.oracle.report.text import ALSO
from attention_ref.oracle.run.compare import compare
from attention_ref.oracle.run.runner import Runner, input_of
from attention_ref.oracle.run.truth import RESULTS, Truth, allowed_pairs
from attention_ref.pipeline.heads import groups

RANK = ("fail", "nondeterministic", "suspicious", "known", "pass", "unsupported")
MOST = 3  # deviations at once


def explained(run, job, known):
    """The run with "known" as the verdict on every result, and on itself, that known deviations account for."""
    known = [one for one in known if one.covers(job.case, job.dtype)]
    if (
        run.verdict not in ("fail", "suspicious")
        or not known
        or run.sentence not in [found.sentence for found in run.results]
    ):
        return run
    judge = Judge(run, job) if run.evidence and job.sample is None else None
    results = [told(found, known, judge) for found in run.results]
    verdict = min((found.verdict for found in results), key=RANK.index)
    sentence = next(found.sentence for found in results if found.verdict == verdict)
    return replace(run, results=results, verdict=verdict, sentence=sentence)


def told(found, known, judge):
    """The verdict on a result, "known" if as few deviations as possible, together, account for it."""
    known = [one for one in known if one.concerns(found.result)]
    if found.verdict == "suspicious":
        several = next(([one] for one in known if one.within > 1 and found.band <= one.within), None)
    elif found.verdict == "fail" and judge is not None:
        several = judge.those(found.result, known)
    else:
        several = None
    sentence = several and ALSO.join(one.sentence for one in several)
    return replace(found, verdict="known", sentence=sentence) if several else found


class Judge:
    """Whether deviations account for what came in one run."""

    def __init__(self, run, job):
        self.runner, self.evidence = Runner(job), run.evidence
        self.inputs, self.truths = run.evidence["inputs"], {}

    def those(self, result, known):
        """The fewest of the deviations that together account for a result; None if they do not."""
        if result not in self.evidence["got"]:
            return None
        tried = (several for count in range(1, MOST + 1) for several in combinations(known, count))
        return next((several for several in tried if self.right(result, several)), None)

    def right(self, result, several):
        """Whether a result is what it should be where these deviations are the convention."""
        values, bounds = self.truth(several)
        got, value, delta = self.evidence["got"][result], values.get(result), bounds.get(input_of(result))
        if value is None or delta is None or got.shape != value.shape:
            return False
        if got.dtype.name in [one.returns for one in several]:
            got = got.astype(self.runner.fmt.dtype)
        delta = max(one.within for one in several) * np.broadcast_to(delta, value.shape)
        lost = ~np.isfinite(got) & np.isfinite(value) & self.reached(result, value.shape, several)
        got, delta = np.where(lost, value, got).astype(got.dtype), np.where(lost, np.inf, delta)
        return compare(result, got, self.runner.wanted(value, delta, result == "lse"))[0].verdict == "pass"

    def truth(self, several):
        """(values, bounds) of every result, by name, where these deviations are the convention."""
        inputs, model = self.inputs, self.runner.job.model
        changed = [one for one in several if one.as_if or one.model]
        for one in changed:
            model = one.model or model
            change = one.as_if if callable(one.as_if) else partial(given, one.as_if or {})
            inputs = change(inputs, self.allowed, self.runner.rule)
        key = tuple(one.sentence for one in changed)
        if key not in self.truths:
            with np.errstate(all="ignore"):
                truth = Truth(self.runner.rule, inputs, model, self.evidence["dlse"])
                backward = any(name not in RESULTS for name in self.evidence["got"])
                gradients = {f"d{name}": x for name, x in truth.backward().items()} if backward else {}
                self.truths[key] = truth.forward() | gradients, truth.bounds(backward)
        return self.truths[key]

    @cached_property
    def allowed(self):
        """Which pairs are allowed, all masks together: [... i j]"""
        size, lead = self.runner.case.size, self.inputs.do.shape[:-2]
        pairs = (size.queries, size.keys)
        return np.broadcast_to(allowed_pairs(*pairs, self.inputs.options), (*lead, *pairs))

    def reached(self, result, shape, several):
        """Where NaN may stand in a result, by these deviations."""
        found = np.zeros(shape, bool)
        for one in several:
            if one.nan:
                rows = self.dead_rows() if one.nan == "dead rows" else self.poisoned_rows()
                found |= in_result(result, shape, rows | rows.any(axis=-2, keepdims=True) if one.mixes else rows)
        return found

    def dead_rows(self):
        """The rows in which nothing is allowed: [... i]"""
        return ~self.allowed.any(axis=-1)

    def poisoned_rows(self):
        """All rows of the heads with an input that is not finite: [... i]"""
        found = np.zeros(self.allowed.shape[:-1], bool)
        whole = (*found.shape[:-1], 1, 1)
        inputs = [*self.inputs.arrays.values(), *(x for name, x in self.inputs.options.items() if name == "bias")]
        for x in inputs:
            bad = ~np.isfinite(x).all(axis=(-2, -1), keepdims=True)
            several = groups(whole, bad.shape)
            bad = np.repeat(bad, whole[-3] // several, axis=-3) if several else bad
            found |= bad[..., 0]
        return found


def given(options, inputs, allowed, rule):
    """The inputs of a case with other options."""
    return replace(inputs, options=inputs.options | options)


def in_result(result, shape, rows):
    """Where NaN in these rows of weights, [... i], may be in a result of this shape."""
    if result == "lse":
        return rows
    if result in ("dk", "dv"):
        rows = rows.any(axis=-1)[..., None]
    if result not in ("o", "alpha", "dq", "dk", "dv", "dbias"):
        return np.full(shape, rows.any())
    last = shape[-2:] if result != "dbias" else (rows.shape[-1], shape[-1])
    return ~folded(~np.broadcast_to(rows[..., None], (*rows.shape[:-1], *last)), shape)


def vanished(runs, jobs, known):
    """The sentences of the deviations whose cases were checked and showed none of it."""
    gone = []
    for one in known:
        pairs = zip(runs, jobs, strict=True)
        covered = [run for run, job in pairs if one.covers(job.case, job.dtype) and checked(run, one)]
        told = {part for run in covered for c in run.results for part in c.sentence.split(ALSO)}
        if covered and one.sentence not in told:
            gone.append(one.sentence)
    return gone


def checked(run, one):
    """Whether a run had any of the results that the deviation is about."""
    return any(c.verdict != "unsupported" and one.concerns(c.result) for c in run.results)
