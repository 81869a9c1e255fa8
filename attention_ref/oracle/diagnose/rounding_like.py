"""Arithmetic that is too coarse: errors that go either way, and have the size that a certain rounding makes.

Which rounding, two runs with roundings in slightly different places agree on only in size: the root mean square of
each failing result's error. Where none of the catalog's has that size, the finest precision model is named whose
bounds hold the errors.
"""

from dataclasses import dataclass

import numpy as np

from attention_ref.oracle.diagnose import factors
from attention_ref.oracle.diagnose.faults import ARITHMETIC

LADDER = {
    "float64": ("f32", "tf32", "f16/f32acc", "bf16/f32acc"),
    "float32": ("tf32", "f16/f32acc", "bf16/f32acc", "f16", "bf16"),
    "bfloat16": ("bf16",),
    "float16": ("bf16/f32acc", "f16", "bf16"),
}
LARGEST = 0.25  # an error relative to the results that is no rounding's any more
PROPORTIONAL = 0.5  # the share of the errors that one factor makes, from which on they are not rounding's
EVEN = (0.25, 0.75)  # the share of errors that are positive, where it is rounding that makes them
SLACK = 1.0
ALIKE = 2.0  # the factor within which two errors are of the same size
PROBES = 8


@dataclass(frozen=True)
class Grain:
    """What is rounded, in words, and the largest error relative to the results."""

    name: str
    clause: str
    error: float


def coarse(failing, side):
    """The Grain of the errors in these failing cases; None if they do not look like rounding."""
    errors = [(seen, {name: error_of(seen, name) for name in seen.of(side, seen.failing)}) for seen in failing]
    if any(error is None for _, some in errors for error in some.values()) or not even(errors):
        return None
    size = max(relative(seen, some) for seen, some in errors)
    mistake = alike(errors, side)
    if mistake:
        return Grain(mistake.name(), mistake.clause(), size)
    if size > LARGEST or proportional(errors):
        return None
    for model in LADDER[failing[0].dtype]:
        scores = (outside(seen, some, model) for seen, some in errors)
        if all(score <= SLACK for score in scores):
            clause = f"arithmetic as coarse as {model}, whose bounds hold"
            return Grain("arithmetic", clause, size)
    return None


def alike(errors, side):
    """The rounding of the catalog that makes errors of the same size in every failing result."""
    probes, found = errors[:: max(len(errors) // PROBES, 1)], {}
    for mistake in ARITHMETIC.values():
        if probes[0][0].dtype in mistake.dtypes:
            ratios = [ratio for seen, some in probes for ratio in sizes(seen, some, mistake, side)]
            found[mistake] = max((abs(np.log(ratio)) if ratio > 0 else np.inf for ratio in ratios), default=np.inf)
    best = min(found, key=found.__getitem__, default=None)
    return best if best and found[best] <= np.log(ALIKE) else None


def sizes(seen, errors, mistake, side):
    """How large these errors are for those that the mistake makes, result by result; not all mistakes make alpha."""
    made = seen.made(mistake, side) or {}
    for name, error in ((name, error) for name, error in errors.items() if name in made):
        bound = np.where(seen.bounds[name] > 0, seen.bounds[name], np.inf)
        other = np.nan_to_num(np.where(np.isfinite(seen.want[name]), made[name] - seen.want[name], 0))
        mine, its = (np.sqrt(np.mean(np.square(x / bound))) for x in (error, other))
        yield mine / its if its else np.inf


def outside(seen, errors, model):
    """The largest of these errors in the model's bounds."""
    bounds = seen.bounds_in(model)
    return max(float(np.max(np.where(e == 0, 0, np.abs(e) / bounds[name]), initial=0)) for name, e in errors.items())


def relative(seen, errors):
    """The largest error, for the largest of the right numbers."""
    sizes = {name: np.max(np.abs(seen.want[name]), initial=0, where=np.isfinite(seen.want[name])) for name in errors}
    return max(
        (float(np.max(np.abs(e), initial=0) / sizes[name]) for name, e in errors.items() if sizes[name]), default=0.0
    )


def error_of(seen, name):
    """got − want, None if they are not finite at the same places."""
    got, want = seen.got[name].astype(np.float64), seen.want[name]
    finite = np.isfinite(want)
    if not np.array_equal(np.isfinite(got), finite):
        return None
    return np.where(finite, got - np.where(finite, want, 0), 0)


def proportional(errors):
    """Whether a factor makes most of the errors of some result."""
    results = {}
    for seen, some in errors:
        for name, error in some.items():
            results.setdefault(name, []).append((error, seen.want[name]))
    return any(factors.share(one) > PROPORTIONAL for one in results.values())


def even(errors):
    """Whether as many of the errors that exceed the bound go up as down."""
    large = [e[np.abs(e) > seen.bounds[name]] > 0 for seen, some in errors for name, e in some.items()]
    low, high = EVEN
    return low <= np.mean(np.concatenate([x.ravel() for x in large])) <= high
