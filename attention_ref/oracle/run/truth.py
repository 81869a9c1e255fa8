"""What is right for a case: the oracle's results in float64 and the bound on each of their elements."""

from dataclasses import replace

import numpy as np

from attention_ref.oracle.bounds import precision
from attention_ref.oracle.bounds.bound import bound
from attention_ref.oracle.bounds.number_formats import widened
from attention_ref.pipeline.attention import attention
from attention_ref.pipeline.place import Place

RESULTS = ("o", "alpha", "lse")
STAGES = ("score", "scaled", "capped", "biased", "masked", "dropped")
TERMS = {
    "work": "arithmetic",
    "operand": "rounded operands",
    "out": "the rounded result",
}


class Truth:
    """The right answers for the inputs of one run, and how far a correct kernel may be from them."""

    def __init__(self, rule, inputs, model, with_dlse=False):
        self.rule, self.model = rule, model
        self.bounds_by_kind: dict = {}
        self.bounds_by_term: dict = {}
        self.arrays, self.options = ({n: widened(x) for n, x in d.items()} for d in (inputs.arrays, inputs.options))
        self.cotangents = {"o": widened(inputs.do)}
        self.attended = attention(**self.arrays, rule=rule, **self.options)
        if with_dlse and self.attended.lse is not None:
            self.cotangents["lse"] = widened(inputs.dlse)

    @property
    def has_dlse(self):
        """Is there a cotangent of lse?"""
        return "lse" in self.cotangents

    def forward(self):
        """{"o": …, "alpha": …, "lse": …}; no lse where it has no meaning."""
        found = {name: getattr(self.attended, name) for name in RESULTS}
        return {name: x for name, x in found.items() if x is not None}

    def stages(self):
        return {name: self.attended.tape[name] for name in STAGES if name in self.attended.tape}

    def backward(self):
        """The gradient of every floating-point input, by the input's name."""
        return self.attended.backward(self.cotangents["o"], dlse=self.cotangents.get("lse"))

    def bounds(self, backward=False, statistical=False, model=None):
        """{result or input: Δ}"""
        cotangents = self.cotangents if backward else None
        model = model or self.model
        return bound(self.rule, self.arrays, self.options, cotangents, model, statistical=statistical)

    def bound_of(self, result, backward=False, statistical=False):
        """The bound on a result, or the band that independent roundings stay in; None where there is none."""
        kind = backward, statistical
        if kind not in self.bounds_by_kind:
            self.bounds_by_kind[kind] = self.bounds(backward, statistical)
        return self.bounds_by_kind[kind].get(input_of(result))

    def term(self, result, index):
        """Which kind of rounding makes up most of the bound at one element, in words."""
        sizes = {part: float(bounds[result][index]) for part, bounds in self.parts(result not in RESULTS).items()}
        return TERMS[max(sizes, key=lambda part: sizes[part])]

    def parts(self, backward):
        """The bounds with all but one kind of rounding left out, by that kind."""
        if backward not in self.bounds_by_term:
            bounds = {part: self.bounds(backward, model=only(part, self.model)) for part in TERMS}
            self.bounds_by_term[backward] = bounds
        return self.bounds_by_term[backward]


def only(part, model):
    """A precision model in which nothing rounds but this part of it."""
    whole = precision.find(model)
    quiet = {other: precision.EXACT for other in ("operand", "stored", "out") if other != part}
    if part != "work":
        quiet["work"] = precision.FORMATS["f64"]
    return replace(whole, pulled=None if "operand" in quiet else whole.pulled, **quiet)


def input_of(result):
    """The name under which `bound` knows a result: q for dq."""
    return result if result in RESULTS else result.removeprefix("d")


def allowed_pairs(queries, keys, options):
    """Which pairs are allowed, as a dense boolean array."""
    allowed = Place(queries, keys, options).allowed
    return np.ones((queries, keys), bool) if allowed is None else allowed
