"""Precision models: which rounding a kernel is allowed at which place, and how much many of them add up to."""

from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np

from attention_ref.errors import OptionError

CONFIDENCE = 3.5  # six standard deviations u/√3: a sum of n independent roundings is beyond 3.5 √n u once in 5e8
EXP_ULPS = 5  # what exp, log, tanh, a square root and a reciprocal may be off by


@dataclass(frozen=True)
class Format:
    """A number format: unit roundoff, smallest subnormal, smallest normal, largest."""

    u: float
    subnormal: float
    normal: float
    largest: float

    def __bool__(self):
        return self.u > 0 or self.subnormal > 0

    def relative(self):
        """The format without underflow."""
        return replace(self, subnormal=0.0, normal=0.0)

    def absolute(self):
        """The format's underflow alone."""
        return replace(self, u=0.0)


EXACT = Format(0.0, 0.0, 0.0, inf)
FORMATS = {
    "f64": Format(2.0**-53, 2.0**-1074, 2.0**-1022, float(np.finfo(np.float64).max)),
    "f32": Format(2.0**-24, 2.0**-149, 2.0**-126, float(np.finfo(np.float32).max)),
    "tf32": Format(2.0**-10, 2.0**-136, 2.0**-126, float(np.finfo(np.float32).max)),  # tensor cores may truncate
    "bf16": Format(2.0**-8, 2.0**-133, 2.0**-126, (2 - 2.0**-7) * 2.0**127),
    "f16": Format(2.0**-11, 2.0**-24, 2.0**-14, 65504.0),
    "e4m3": Format(2.0**-4, 2.0**-9, 2.0**-6, 448.0),
    "e5m2": Format(2.0**-3, 2.0**-16, 2.0**-14, 57344.0),
}
PLACES = ("work", "operand", "pulled", "stored", "out")
KINDS = {"accumulation": ("work",), "operands": ("operand", "pulled"), "storage": ("stored",), "output": ("out",)}


@dataclass(frozen=True)
class Model:
    """What a kernel rounds, and to what.

    work          products, sums and functions
    operand       what goes into a matrix product and is not an input: alpha, ds, a projected query
    pulled        the same, in the backward pass
    stored        every intermediate result, if each operation writes one to memory
    out           the results and the gradients; lse stays in the working format
    rounds_inputs whether inputs are rounded too as they enter a product (tf32), or scaled first (op by op)
    flush         whether the working format may flush subnormal numbers to zero
    statistical   √n for n: what independent roundings add up to, not what they could
    """

    name: str
    work: Format
    operand: Format = EXACT
    pulled: Format | None = None
    stored: Format = EXACT
    out: Format = EXACT
    rounds_inputs: bool = False
    flush: bool = True
    statistical: bool = False
    ulps: float = EXP_ULPS

    @property
    def u(self):
        return self.work.u

    @property
    def tiny(self):
        """The largest number that the working format may lose to zero (η)."""
        return self.lost(self.work)

    @property
    def c(self):
        """What a function may be off by, in units of u; an ulp is up to 2u."""
        return 2 * self.ulps

    def lost(self, form):
        """What a format may lose to zero: a subnormal, or all below normal where a device flushes (float32 does)."""
        return form.normal if self.flush and form == self.work else form.subnormal

    def rounding(self, form, size):
        """The error of rounding a number of at most this size: u |x| + what underflows; overflow has no bound."""
        if not form:
            return np.zeros_like(size)
        return np.where(size > form.largest, inf, form.u * size + np.where(size > 0, self.lost(form), 0))

    def effective(self, n):
        return np.minimum(n, CONFIDENCE * np.sqrt(n)) if self.statistical else n

    def gamma(self, n):
        """γ_n = n u / (1 − n u): what n roundings in a row, in any order, can do to a sum of products."""
        n = self.effective(n) * self.u
        return np.where(n < 1, n / np.where(n < 1, 1 - n, 1), inf)

    def alone(self):
        """{kind of error: the model with that kind only}, for the kinds that it has."""
        own = {name: getattr(self, name) for name in PLACES if getattr(self, name) is not None}
        exact: dict[str, Any] = dict.fromkeys(own, EXACT)
        kinds: dict[str, Any] = {
            kind: {name: own[name].relative() for name in names if name in own} for kind, names in KINDS.items()
        }
        kinds["underflow"] = {name: form.absolute() for name, form in own.items()}
        return {kind: replace(self, **exact | forms) for kind, forms in kinds.items() if any(map(bool, forms.values()))}

    def backward(self):
        return replace(self, operand=self.pulled or self.operand)


def accumulated(low, operand=None, **rest):
    low, operand = FORMATS[low], FORMATS[operand or low]
    return {"work": FORMATS["f32"], "operand": operand, "out": low, **rest}


def by_operation(low):
    low = FORMATS[low]
    return {"work": FORMATS["f32"], "operand": low, "stored": low, "out": low, "rounds_inputs": True}


MODELS = {
    name: Model(name, **parts)
    for name, parts in {
        "f64": {"work": FORMATS["f64"], "out": FORMATS["f64"]},
        "f32": {"work": FORMATS["f32"], "out": FORMATS["f32"]},
        "tf32": {
            "work": FORMATS["f32"], "operand": FORMATS["tf32"], "out": FORMATS["f32"], "rounds_inputs": True
        },
        "bf16/f32acc": accumulated("bf16"),
        "f16/f32acc": accumulated("f16"),
        "fp8/f32acc": accumulated("bf16", "e4m3", pulled=FORMATS["e5m2"]),
        "bf16": by_operation("bf16"),
        "f16": by_operation("f16"),
    }.items()
}  # fmt: skip


def find(model, statistical=False):
    """A model by its name, or the model itself."""
    if not isinstance(model, Model):
        if model not in MODELS:
            raise OptionError(f"there is no precision model {model!r}; it is a Model or one of {', '.join(MODELS)}")
        model = MODELS[model]
    return replace(model, statistical=statistical)
