"""Arithmetic that is too coarse: errors that no step explains, and that the bounds of a coarser model hold."""

from dataclasses import dataclass

import numpy as np

LADDER = {
    "float64": ("f32", "tf32", "f16/f32acc", "bf16/f32acc"),
    "float32": ("tf32", "f16/f32acc", "bf16/f32acc", "f16", "bf16"),
    "bfloat16": ("bf16",),
    "float16": ("bf16/f32acc", "f16", "bf16"),
}
EVEN = (0.25, 0.75)  # the share of errors that are positive, where it is rounding that makes them
SLACK = 2.0


@dataclass(frozen=True)
class Grain:
    """A precision model that the candidate keeps to, the largest error in its bounds, and relative to the results."""

    model: str
    score: float
    error: float

    @property
    def name(self):
        return "arithmetic"

    @property
    def clause(self):
        model = self.model
        return f"arithmetic as coarse as {model}: the errors go either way, at most {self.score:.2g} times the statistical band"


def coarse(failing, side):
    """The finest of the coarser models whose bounds hold in every failing case, if the errors look like rounding."""
    errors = [(seen, {name: error_of(seen, name) for name in seen.of(side, seen.failing)}) for seen in failing]
    if any(error is None for _, some in errors for error in some.values()) or not even(errors):
        return None
    for model in LADDER[failing[0].dtype]:
        score = 0.0
        for seen, some in errors:
            score = max(score, outside(seen, some, model))
            if not score <= SLACK:
                break
        else:
            return Grain(model, score, max(relative(seen, some) for seen, some in errors))
    return None


def outside(seen, errors, model):
    """The largest of these errors in the model's bounds."""
    bounds = seen.bounds_in(model, statistical=True)
    return max(float(np.max(np.where(e == 0, 0, np.abs(e) / bounds[name]), initial=0)) for name, e in errors.items())


def relative(seen, errors):
    """The largest error, for the largest of the right numbers."""
    sizes = {name: np.max(np.abs(seen.want[name]), initial=0, where=np.isfinite(seen.want[name])) for name in errors}
    return max(float(np.max(np.abs(e), initial=0) / sizes[name]) for name, e in errors.items() if sizes[name])


def error_of(seen, name):
    """got − want, None if they are not finite at the same places."""
    got, want = seen.got[name].astype(np.float64), seen.want[name]
    finite = np.isfinite(want)
    if not np.array_equal(np.isfinite(got), finite):
        return None
    return np.where(finite, got - np.where(finite, want, 0), 0)


def even(errors):
    """Whether as many of the errors that exceed the bound go up as down."""
    large = [e[np.abs(e) > seen.bounds[name]] > 0 for seen, some in errors for name, e in some.items()]
    low, high = EVEN
    return low <= np.mean(np.concatenate([x.ravel() for x in large])) <= high
