"""How far from the exact result a correct kernel may be: an a-priori bound for each element, from the inputs alone.

The pipeline runs once on the exact values with an error beside each (`near`), forward and then backward, in the stated
precision model (`precision`). Nothing is assumed about the order in which a kernel works, nor whether it rounds the
weights, takes D = Σ do∘o from its rounded o or as Σ α∘dα, or has the scale in q or in s. Overflow has no bound: where a
sum may leave its format's range, the bound is infinite.
"""

import numpy as np

from attention_ref.errors import OptionError
from attention_ref.op.arrays import finite, reduce_to
from attention_ref.oracle.bounds import precision
from attention_ref.oracle.bounds.adjustments import SUBSTITUTES
from attention_ref.oracle.bounds.normalizers import NORMALIZERS
from attention_ref.oracle.bounds.running_error import concatenate, constant, exact, where
from attention_ref.pipeline.heads import groups
from attention_ref.pipeline.place import FILL, Place
from attention_ref.pipeline.recorder import Recorder
from attention_ref.pipeline.rule import find

WHOLE = ("q", "k", "v", "bias")  # whose gradients kernels write before they are summed over what was broadcast


def bound(rule, inputs, options=None, cotangents=None, model="f32", statistical=False):
    """{"o": Δ, "alpha": Δ, "lse": Δ} and, given `cotangents` ({"o": do, "lse": …, "alpha": …}), {input: Δ}.

    Inputs are taken as they are: round them to the tested dtype first. With `statistical`, the band that independent
    roundings leave about once in 5e8 (√n for n): to exceed it is suspicious, to exceed the bound is wrong. Equal scores
    or values are rounded alike and may exceed the band.
    """
    model = precision.find(model, statistical)
    with np.errstate(all="ignore"):
        plan = whole(find(rule), {**inputs, **(options or {})}, model)
        results = plan.forward()
        if cotangents is not None:
            results |= plan.backward(*(cotangents.get(name) for name in ("o", "lse", "alpha")))
        return deltas(results, model)


def terms(rule, inputs, options=None, cotangents=None, model="f32"):
    """The bound with one kind of error at a time: {"accumulation": {"o": Δ, …}, "operands": …, …}, by kind.

    To first order they add up to the bound; the largest at an element is what dominates there.
    """
    model = precision.find(model)
    return {kind: bound(rule, inputs, options, cotangents, alone) for kind, alone in model.alone().items()}


def deltas(results, model):
    return {name: delta(near, model) for name, near in results.items()}


def delta(near, model):
    """The error as an array; what is not a number has no bound. The oracle's own error, in float64, is on top."""
    error = near.error * (1 + precision.FORMATS["f64"].u / (model.u or 1))
    return np.where(np.isnan(error), np.inf, error)


def whole(rule, given, model):
    """The plan of a whole call."""
    arrays, options = rule.check(rule.named((), given))
    place = Place(arrays["q"].shape[-2], arrays["v"].shape[-2], arrays | options, rule.module.pairwise)
    return Plan(rule.module, arrays, options, place, model)


class Unmasked(Recorder):
    """Runs the stages as kernels may compute them; the mask is left to the normalizer, whose bound must know of it."""

    def apply(self, name, op, x, /, *, shown_as=None, **arguments):
        if name == "masked":
            return x
        return super().apply(name, SUBSTITUTES.get(name, op), x, shown_as=shown_as, **arguments)


class Plan:
    """Attention with everything dense; the forward pass keeps what the backward pass needs."""

    def __init__(self, pipeline, arrays, options, place, model):
        self.model, self.pipeline, self.options, self.place = model, pipeline, arrays | options, place
        self.shapes = {name: x.shape for name, x in arrays.items() if x.dtype.kind == "f"}
        given = {name: finite(arrays[name].astype(float, copy=False)) for name in self.shapes}
        self.name = self.options.get("normalize", pipeline.own_normalize)
        if self.name not in NORMALIZERS:
            raise OptionError(f"there is no error bound for normalize={self.name!r}; for {', '.join(NORMALIZERS)}")
        for name in given.keys() & {"k", "v"}:
            g = groups(self.shapes["q"], self.shapes[name])
            if g:
                given[name] = np.repeat(given[name], self.shapes["q"][-3] // g, axis=-3)
        self.given = {name: exact(x, model) for name, x in given.items()}

    def scores(self):
        """The scores before the masks and the normalizer."""
        given = self.options | self.given
        arguments = {name: given[name] for name in ("q", "k", *self.parameters) if name in given}
        s, self.scored = self.pipeline.score.forward(**arguments)
        self.adjustments = Unmasked()
        return self.pipeline.adjusted(self.adjustments, s, self.pipeline.factor(given["q"], given), self.place, given)

    def forward(self):
        s = self.scores().settled()
        self.keys, allowed = s.shape[-1], self.place.allowed
        self.allowed = np.broadcast_to(True if allowed is None else allowed, s.shape)
        sink = self.sink()
        self.normalizer = NORMALIZERS[self.name](
            s if sink is None else with_column(s, sink),
            self.allowed if sink is None else np.concatenate([self.allowed, self.allowed[..., :1] | True], axis=-1),
        )
        alpha = self.filled(self.normalizer.alpha[..., : self.keys])
        self.o = self.result(self.weighted(self.dropped(alpha)))
        results = {"o": self.o, "alpha": self.result(alpha)}
        return results | ({} if self.normalizer.lse is None else {"lse": self.normalizer.lse})

    def weighted(self, alpha):
        return alpha @ self.given["v"]

    @property
    def parameters(self):
        return self.pipeline.parameters

    def sink(self):
        if self.name == "softmax_off_by_one":
            return exact(np.zeros(()), self.model)
        return self.given.get("sink")

    def filled(self, alpha):
        """What `empty_row` gives to the rows in which nothing is allowed."""
        kind = self.options.get("empty_row")
        if kind not in FILL:
            return alpha
        return where(self.allowed.any(axis=-1, keepdims=True), alpha, constant(FILL[kind](self.keys), alpha.model))

    def dropped(self, alpha):
        if "dropout" not in self.options:
            return alpha
        return where(self.options["dropout"], alpha * constant(1 / (1 - self.options["dropout_p"]), alpha.model), 0)

    def backward(self, do=None, dlse=None, dalpha=None):
        """The gradient of every input. D has two ways: Σ α∘dα, and Σ do∘o of the kernel's own rounded o."""
        model = self.model.backward()
        do = np.zeros(self.o.shape) if do is None else do
        do, dlse, dalpha = (None if d is None else exact(d, model) for d in (do, dlse, dalpha))
        again = self.filled(self.normalizer.again[..., : self.keys])
        grads = self.through_weights(self.dropped(again), do)
        da = self.dropped(self.pulled(do))
        through_o = (do * self.o).sum(axis=-1)
        if dalpha is not None:
            da, through_o = da + dalpha, through_o + (dalpha * again).sum(axis=-1)
        if self.sink() is not None:
            da = with_column(da, exact(np.zeros(()), model))
        ds = self.normalizer.backward(da, through_o, dlse)
        if "sink" in self.given:
            grads["sink"] = ds[..., self.keys].sum(axis=-1)
        grads |= self.through_scores(as_operand(where(self.allowed, ds[..., : self.keys], 0)))
        return self.results(grads)

    def through_weights(self, weights, do):
        return {"v": np.swapaxes(weights, -1, -2) @ do}

    def pulled(self, do):
        """The cotangent of the weights."""
        return do @ np.swapaxes(self.given["v"].but(model=do.model), -1, -2)

    def through_scores(self, ds):
        """The gradients of what the scores are made of."""
        grads = {}
        for op, taped in reversed(self.adjustments.steps.values()):
            here = op.backward(ds, **taped)
            ds, grads = still_operand(here.pop("s")), grads | here
        return grads | self.pipeline.score.backward(ds, **self.scored)

    def results(self, grads):
        """The gradients as a kernel returns them."""
        grads = grads | {name: self.scaled_last(grads[name]) for name in "qk" if name in grads}
        return {name: self.result(self.summed(name, grads[name])) for name in self.shapes if name in grads}

    def scaled_last(self, near):
        """No bound where the gradient leaves its format's range before it is scaled."""
        form = self.model.stored if self.model.stored else self.model.work
        scale = (
            self.given["scale"].value
            if "scale" in self.given
            else (self.pipeline.own_scale or unscaled)(self.given["q"])
        )
        before = near.upper / np.minimum(1, np.min(np.abs(scale), initial=1))
        return near.but(inherited=np.where(before > form.largest, np.inf, near.inherited))

    def result(self, near):
        return near.rounded(self.model.out)

    def summed(self, name, near):
        """A gradient in its argument's shape, the broadcast axes and the heads that share a key summed away.

        The parts may have been written to memory in the output format first; or all were one sum of that many terms.
        """
        shape = self.shapes[name]
        if name in "kv" and groups(near.shape, shape):
            near = near.reshape(*near.shape[:-3], shape[-3], -1, *near.shape[-2:])
            shape = (*shape[:-2], 1, *shape[-2:])
        if near.shape == shape:
            return near
        terms = near.value.size // max(int(np.prod(shape)), 1)
        depth = (near.depth.max(initial=0) + 1) * terms
        if name in WHOLE:
            near = near.but(inherited=near.inherited + self.model.rounding(self.model.out, near.upper))
        near = reduce_to(near, shape)
        return near.but(depth=np.full(near.shape, depth)).reshape(*self.shapes[name])


def unscaled(q):
    return 1


def as_operand(ds):
    """ds as a kernel with low-precision products has it: rounded once, for all that is made of it."""
    if ds.model.rounds_inputs:
        return ds
    return ds.rounded(ds.model.operand).but(given=True)


def still_operand(ds):
    """ds times a factor: its relative rounding stays what it was, before or after; it may underflow once more."""
    settled = ds.settled()
    if ds.model.rounds_inputs:
        return settled
    lost = np.where(ds.upper > 0, ds.model.lost(ds.model.operand), 0)
    return settled.but(inherited=settled.inherited + lost, given=True)


def with_column(x, last):
    """x with one more column, a value for each of the leading axes or for all."""
    return concatenate([x, np.broadcast_to(last[..., None, None], (*x.shape[:-1], 1))], axis=-1)
