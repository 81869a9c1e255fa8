"""The deviations that a library is known for: seen again, they do not fail; no longer seen, they are reported.

A deviation explains a result only if it makes the result: held against the oracle under the deviation's own convention,
what came must be right, everywhere, to its bound.
"""

from dataclasses import replace
from functools import cached_property, partial
from itertools import combinations

import numpy as np

from attention_ref.oracle.cases.case import folded
from attention_ref.oracle.run.compare import compare
from attention_ref.oracle.run.runner import Runner
from attention_ref.oracle.run.trouble import Trouble, TroubleKind
from attention_ref.oracle.run.truth import RESULTS, Truth, allowed_pairs, input_of
from attention_ref.pipeline.heads import groups

RANK = ("fail", "nondeterministic", "suspicious", "known", "pass", "unsupported")
MOST = 3  # deviations at once


def explained(run, job, known):
    """The run with "known" as the verdict on every result, and on itself, that known deviations account for."""
    known = [deviation for deviation in known if deviation.covers(job.case, job.dtype)]
    of_a_result = run.trouble in [comparison.trouble for comparison in run.results]
    if run.verdict not in ("fail", "suspicious") or not known or not of_a_result:
        return run
    judge = Judge(run, job) if run.evidence and job.sample is None else None
    results = [judged(comparison, known, judge) for comparison in run.results]
    worst = min(results, key=lambda comparison: RANK.index(comparison.verdict))
    return replace(run, results=results, verdict=worst.verdict, trouble=worst.trouble)


def judged(comparison, known, judge):
    """The comparison, "known" if deviations account for it; they are then as few as possible."""
    known = [deviation for deviation in known if deviation.concerns(comparison.result)]
    deviations = None
    if comparison.verdict == "suspicious":
        wide = [one for one in known if one.bound_factor > 1 and comparison.band <= one.bound_factor]
        deviations = wide[:1]
    elif comparison.verdict == "fail" and judge is not None:
        deviations = judge.smallest_explanation(comparison.result, known)
    if not deviations:
        return comparison
    sentences = tuple(deviation.sentence for deviation in deviations)
    return replace(comparison, trouble=Trouble(TroubleKind.KNOWN, {"deviations": sentences}), known=sentences)


class Judge:
    """Whether deviations account for what came in one run."""

    def __init__(self, run, job):
        self.runner, self.evidence = Runner(job), run.evidence
        self.inputs, self.truths = run.evidence["inputs"], {}

    def smallest_explanation(self, result, known):
        """The fewest of the deviations that together account for a result; None if they do not."""
        if result not in self.evidence["got"]:
            return None
        for count in range(1, MOST + 1):
            for deviations in combinations(known, count):
                if self.right(result, deviations):
                    return deviations
        return None

    def right(self, result, deviations):
        """Whether a result is what it should be where these deviations are the convention."""
        values, bounds = self.truth(deviations)
        got, value, delta = self.evidence["got"][result], values.get(result), bounds.get(input_of(result))
        if value is None or delta is None or got.shape != value.shape:
            return False
        if got.dtype.name in [one.returns for one in deviations]:
            got = got.astype(self.runner.fmt.dtype)
        delta = max(one.bound_factor for one in deviations) * np.broadcast_to(delta, value.shape)
        lost = ~np.isfinite(got) & np.isfinite(value) & self.reached(result, value.shape, deviations)
        got, delta = np.where(lost, value, got).astype(got.dtype), np.where(lost, np.inf, delta)
        return compare(result, got, self.runner.wanted(value, delta, result == "lse"))[0].verdict == "pass"

    def truth(self, deviations):
        """(values, bounds) of every result, by name, where these deviations are the convention."""
        inputs, model = self.inputs, self.runner.job.model
        changed = [one for one in deviations if one.convention or one.model]
        for one in changed:
            model = one.model or model
            change = one.convention if callable(one.convention) else partial(with_options, one.convention or {})
            inputs = change(inputs, self.allowed, self.runner.rule)
        key = tuple(map(id, changed))
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

    def reached(self, result, shape, deviations):
        """Where NaN may stand in a result, by these deviations."""
        reached = np.zeros(shape, bool)
        for one in deviations:
            if one.nan_from:
                rows = self.empty_rows() if one.nan_from == "empty rows" else self.poisoned_rows()
                if one.spreads_across_heads:
                    rows = rows | rows.any(axis=-2, keepdims=True)
                reached |= in_result(result, shape, rows)
        return reached

    def empty_rows(self):
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


def with_options(options, inputs, allowed, rule):
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
    for deviation in known:
        covered = []
        for run, job in zip(runs, jobs, strict=True):
            if deviation.covers(job.case, job.dtype) and checked(run, deviation):
                covered.append(run)
        seen = {sentence for run in covered for comparison in run.results for sentence in comparison.known}
        if covered and deviation.sentence not in seen:
            gone.append(deviation.sentence)
    return gone


def checked(run, deviation):
    """Whether a run had any of the results that the deviation is about."""
    return any(c.verdict != "unsupported" and deviation.concerns(c.result) for c in run.results)
