"""A candidate's results beside the oracle's: how far each is off, and where."""

from dataclasses import dataclass

import numpy as np

from attention_ref.pipeline.attention import attention
from attention_ref.pipeline.rule import rules

TOLERANCE = 1e-12
"""Of a result's largest value; correct float64 programs differ here by a few 1e-16."""

RESULTS = ("o", "alpha", "dq", "dk", "dv")


@dataclass(frozen=True)
class Finding:
    """What was found about one result: its worst element and the error there, relative to the largest value."""

    result: str
    shape: tuple[int, ...]
    error: float
    worst: tuple[int, ...]
    got: float
    want: float

    @property
    def passed(self):
        return self.error <= TOLERANCE


def inputs(**sizes):
    """Queries, keys, values and the cotangent of the output: every axis another prime unless `sizes` says so."""
    drawn = rules["scaled_dot"].example(seed=7, leading=(2,), **({"i": 11, "j": 13, "d": 7, "e": 5} | sizes))
    shape = (*drawn["q"].shape[:-1], drawn["v"].shape[-1])
    return drawn | {"do": np.random.default_rng(11).standard_normal(shape)}


def oracle(q, k, v, do):
    attended = attention(q, k, v)
    gradients = attended.backward(do)
    return {"o": attended.o, "alpha": attended.alpha} | {"d" + name: gradients[name] for name in ("q", "k", "v")}


def compare(got, want):
    """One finding a result, in the order forward, backward."""
    return [finding(result, got[result], want[result]) for result in RESULTS]


def finding(result, got, want):
    difference = np.abs(got - want)
    worst = tuple(int(n) for n in np.unravel_index(np.argmax(difference), difference.shape))
    error = float(difference[worst] / np.max(np.abs(want)))
    return Finding(result, want.shape, error, worst, float(got[worst]), float(want[worst]))


def worst_error(got, want):
    return max(found.error for found in compare(got, want))


def self_consistency(candidate, given, step=1e-5):
    """How far a candidate's gradients are from central differences of its own output: what it can say of itself."""
    rng = np.random.default_rng(13)
    tangents = {name: rng.standard_normal(given[name].shape) for name in ("q", "k", "v")}
    ahead, behind = (
        candidate(**given | {name: given[name] + sign * step * t for name, t in tangents.items()})["o"]
        for sign in (1, -1)
    )
    measured = np.vdot(given["do"], ahead - behind) / (2 * step)
    gradients = candidate(**given)
    claimed = sum(np.vdot(gradients["d" + name], t) for name, t in tangents.items())
    return float(abs(measured - claimed) / abs(measured))
