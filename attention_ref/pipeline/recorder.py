"""The recorder of one call runs the stages forward and keeps what backward needs; `Reverse` runs them backward.

recorder = Recorder()
s = recorder.apply("scaled", scale, s, scale=0.5)      # forward: one line a stage
s = recorder.apply("masked", keep, s, allowed=allowed)
back = Reverse(recorder)                               # backward: the same names from the last to the first
ds = back.undo("masked", ds)
ds = back.undo("scaled", ds)
back.grads                                             # the gradients of everything else that the stages took
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from attention_ref.op.op import reference, referred
from attention_ref.op.signature import Signature


class Step(NamedTuple):
    """One stage that was run: its op, and what the op's backward needs."""

    op: Any
    tape: dict[str, Any]

    def __reduce__(self):
        """A module is pickled by its name."""
        return loaded_step, (reference(self.op), self.tape)


def loaded_step(op, tape):
    return Step(referred(op), tape)


@dataclass
class Recorder:
    """Runs, rounds, shows and keeps each stage of one call.

    `steps` are the stages by name, in the order in which they ran; `shown` the values that a reader may look at.
    `rounding(name, x)` rounds every value that has a name, for an emulated precision; None rounds nothing.
    """

    rounding: Callable[[str, np.ndarray], np.ndarray] | None = None
    steps: dict[str, Step] = field(default_factory=dict)
    shown: dict[str, np.ndarray] = field(default_factory=dict)

    def apply(self, name, op, x, /, *, shown_as=None, **arguments):
        """The value of a stage at x; an op with an lse gives (alpha, lse)."""
        value, tape = op.forward(x, **arguments)
        self.steps[name] = Step(op, tape)
        if isinstance(value, tuple):
            names = results(op.SIGNATURE)
            return tuple(self.show(each, result) for each, result in zip(names, value, strict=True))
        return self.show(shown_as or name, value)

    def show(self, name, value):
        """A value as it goes on: rounded, and on the tape for the reader."""
        self.shown[name] = value = self.rounded(name, value)
        return value

    def rounded(self, name, x):
        return x if self.rounding is None else self.rounding(name, x)


class Reverse:
    """The way back through a recorder's stages; `grads` collects the gradients of what the stages took besides."""

    def __init__(self, recorder: Recorder):
        self.steps, self.grads = recorder.steps, {}

    def undo(self, name, dvalue):
        """The cotangent of what went into a stage, from that of what came out; the same where it was left out."""
        if name not in self.steps:
            return dvalue
        op, tape = self.steps[name]
        grads = op.backward(dvalue, **tape)
        dx = grads.pop(first_argument(op.SIGNATURE))
        twice = self.grads.keys() & grads.keys()
        if twice:
            raise ValueError(f"two stages have an argument {min(twice)!r}, and each a gradient for it")
        self.grads |= grads
        return dx


@lru_cache(maxsize=256)
def results(signature: str) -> tuple[str, ...]:
    """The names of an op's results."""
    return tuple(result.name for result in Signature(signature).results)


@lru_cache(maxsize=256)
def first_argument(signature: str) -> str:
    """The name of the argument that an op takes first: the value that runs through the pipeline."""
    return Signature(signature).arguments[0].name


def has_lse(normalizer):
    """Whether a normalizer returns lse beside alpha."""
    return "lse" in results(normalizer.SIGNATURE)
