"""Arithmetic that is too coarse: errors that no step explains, but that roundings of a coarser kind stay above."""

from dataclasses import dataclass

import numpy as np

LADDER = {
    "float64": ("f32", "tf32", "f16/f32acc", "bf16/f32acc"),
    "float32": ("tf32", "f16/f32acc", "bf16/f32acc", "f16", "bf16"),
    "bfloat16": ("bf16",),
    "float16": ("bf16/f32acc", "f16", "bf16"),
}
EVEN = (0.25, 0.75)  # the share of errors that are positive, where it is rounding that makes them


@dataclass(frozen=True)
class Grain:
    """A precision model that the candidate keeps to, and the largest relative error."""

    model: str
    error: float

    @property
    def name(self):
        return "arithmetic"

    @property
    def clause(self):
        return (
            f"arithmetic as coarse as {self.model}: the errors go either way and stay inside the bounds of {self.model}"
        )


def coarse(failing, side):
    """The finest of the coarser models whose bounds hold in every failing case, if the errors look like rounding."""
    errors = [(seen, name, error_of(seen, name)) for seen in failing for name in seen.of(side, seen.failing)]
    if not errors or any(error is None for _, _, error in errors) or not even(errors):
        return None
    largest = max(
        np.max(np.abs(e)) / np.max(np.abs(np.where(np.isfinite(s.want[n]), s.want[n], 0))) for s, n, e in errors
    )
    for model in LADDER[failing[0].dtype]:
        if all(inside(seen, {n: e for s, n, e in errors if s is seen}, model) for seen in failing):
            return Grain(model, float(largest))
    return None


def inside(seen, errors, model):
    bounds = seen.bounds_in(model)
    return all((np.abs(error) <= bounds[name]).all() for name, error in errors.items())


def error_of(seen, name):
    """got − want, None if they are not finite at the same places."""
    got, want = seen.got[name].astype(np.float64), seen.want[name]
    finite = np.isfinite(want)
    if not np.array_equal(np.isfinite(got), finite):
        return None
    return np.where(finite, got - np.where(finite, want, 0), 0)


def even(errors):
    """Whether the errors that exceed the bound go up and down, and away from zero and towards it, alike."""
    signs, outward = [], []
    for seen, name, error in errors:
        large = np.abs(error) > seen.bounds[name]
        signs.append(error[large] > 0)
        outward.append((error * seen.want[name])[large] > 0)
    low, high = EVEN
    return all(low <= np.mean(np.concatenate(x)) <= high for x in (signs, outward))
