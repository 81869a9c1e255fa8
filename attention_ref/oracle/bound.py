"""How far from the exact result a correct kernel may be: an a-priori bound for each element, from the inputs alone.

The pipeline runs once on the exact values with an error beside each (`near`), forward and then backward, in the stated
precision model (`precision`). Nothing is assumed about the order in which a kernel works, nor whether it rounds the
weights, takes D = Σ do∘o from its rounded o or as Σ α∘dα, or has the scale in q or in s. Overflow has no bound: where a
sum may leave its format's range, the bound is infinite.
"""

import numpy as np

from attention_ref.arrays import reduce_to
from attention_ref.attention import find, finite
from attention_ref.oracle import adjust, precision
from attention_ref.oracle.near import concatenate, constant, exact, where
from attention_ref.oracle.normalize import either, row_sums, softmax, softmax_backward

TENSORS = ("bias", "scale", "softcap", "sink", "alibi_slopes")

WHOLE = ("q", "k", "v", "bias")  # whose gradients kernels write before they are summed over what was broadcast


def bound(rule, inputs, options=None, cotangents=None, model="f32", statistical=False):
    """{"o": Δ, "alpha": Δ, "lse": Δ} and, given `cotangents` ({"o": do, "lse": …, "alpha": …}), {input: Δ}.

    Inputs are taken as they are: round them to the tested dtype first. With `statistical`, the band that independent
    roundings leave about once in 5e8 (√n for n): to exceed it is suspicious, to exceed the bound is wrong.
    """
    model = precision.find(model, statistical)
    with np.errstate(all="ignore"):
        plan = Plan(find(rule), inputs, options or {}, model)
        results = plan.forward()
        if cotangents is not None:
            results |= plan.backward(*(cotangents.get(name) for name in ("o", "lse", "alpha")))
        return {name: delta(near, model) for name, near in results.items()}


def delta(near, model):
    """The error as an array; what is not a number has no bound. The oracle's own error, in float64, is on top."""
    error = near.error * (1 + precision.FORMATS["f64"].u / model.u)
    return np.where(np.isnan(error), np.inf, error)


class Plan:
    """One call of attention with everything dense; the forward pass keeps what the backward pass needs."""

    def __init__(self, rule, inputs, options, model):
        self.model, self.pipeline = model, rule.module
        self.normalize = options.get("normalize") or self.pipeline.own_normalize
        self.dropout = options.get("dropout")
        given = inputs | {name: options[name] for name in TENSORS if options.get(name) is not None}
        self.shapes = {name: np.shape(x) for name, x in given.items()}
        self.given = {name: exact(finite(np.asarray(x, np.float64)), model) for name, x in given.items()}
        self.allowed = allowed_keys(options)
        self.distance = options.get("distance")
        self.share_heads()

    def share_heads(self):
        """Repeat the heads of keys and values for the query heads that share them."""
        heads = self.shapes["q"][:-2][-1:]
        for name in "kv":
            few = self.shapes[name][:-2][-1:]
            if heads and few and 1 < few[0] < heads[0]:
                self.given[name] = np.repeat(self.given[name], heads[0] // few[0], axis=-3)

    def forward(self):
        parameters = {name: x for name, x in self.given.items() if name not in ("v", *TENSORS)}
        s, self.scored = self.pipeline.score.forward(**parameters)
        self.steps = []
        for forward, backward, arguments in self.stages():
            s, taped = forward(s, **arguments)
            self.steps.append((backward, taped))
        s = s.settled()
        allowed = np.ones(s.shape, bool) if self.allowed is None else np.broadcast_to(self.allowed, s.shape)
        self.keys, self.keep = s.shape[-1], allowed
        if "sink" in self.given:
            s, allowed = with_column(s, self.given["sink"]), with_true_column(allowed)
        self.weights = [softmax(s, allowed)]
        if self.normalize == "double_softmax":
            self.weights.append(softmax(self.weights[0].alpha, allowed))
        alpha = self.weights[-1].alpha[..., : self.keys]
        self.o = self.result(self.dropped(alpha) @ self.given["v"])
        results = {"o": self.o, "alpha": self.result(alpha)}
        return results | ({"lse": self.weights[0].lse} if self.normalize == "softmax" else {})

    def stages(self):
        """(forward, backward, arguments) of every stage that applies, in order."""
        given = self.given
        if "scale" in given:
            yield adjust.scale_forward, adjust.scale_backward, {"scale": given["scale"]}
        elif self.pipeline.own_scale:
            own = constant(self.pipeline.own_scale(given["q"]), self.model)
            yield adjust.scale_forward, adjust.scale_backward, {"scale": own}
        if "softcap" in given:
            yield adjust.softcap_forward, adjust.softcap_backward, {"softcap": given["softcap"]}
        if "bias" in given:
            yield adjust.bias_forward, adjust.bias_backward, {"bias": given["bias"]}
        if "alibi_slopes" in given:
            slopes = {"alibi_slopes": given["alibi_slopes"], "distance": self.distance}
            yield adjust.alibi_forward, adjust.alibi_backward, slopes

    def dropped(self, alpha):
        if self.dropout is None:
            return alpha
        keep, p = self.dropout
        return where(keep, alpha * constant(1 / (1 - p), self.model), 0)

    def backward(self, do=None, dlse=None, dalpha=None):
        """The gradient of every input. D has two ways: Σ α∘dα, and Σ do∘o of the kernel's own rounded o."""
        model = self.model.backward()
        do, dlse, dalpha = (None if d is None else exact(d, model) for d in (do, dlse, dalpha))
        weights, v = self.weights[-1], self.given["v"].with_model(model)
        again = weights.again[..., : self.keys]
        do = exact(np.zeros(self.o.shape), model) if do is None else do
        grads = {"v": np.swapaxes(self.dropped(again), -1, -2) @ do}
        da = self.dropped(do @ np.swapaxes(v, -1, -2))
        through_o = (do * self.o).sum(axis=-1)
        if dalpha is not None:
            da, through_o = da + dalpha, through_o + (dalpha * again).sum(axis=-1)
        ds = self.softmax_backward(da, through_o, dlse)
        if "sink" in self.given:
            grads["sink"] = ds[..., self.keys].sum(axis=-1)
        ds = as_operand(where(self.keep, ds[..., : self.keys], 0))
        for backward, taped in reversed(self.steps):
            ds, more = backward(ds, **taped)
            ds, grads = still_operand(ds), grads | more
        grads |= self.pipeline.score.backward(ds, **self.scored)
        return {name: self.result(self.summed(name, grads[name])) for name in self.given}

    def softmax_backward(self, da, through_o, dlse):
        if "sink" in self.given:
            da = with_column(da, exact(np.zeros(()), da.model))
        row = either(row_sums(self.weights[-1], da), through_o)
        if self.normalize == "double_softmax":
            da = softmax_backward(self.weights[1], da, row)
            row = row_sums(self.weights[0], da)
        return softmax_backward(self.weights[0], da, row if dlse is None else row - dlse)

    def result(self, near):
        return near.rounded(self.model.out)

    def summed(self, name, near):
        """A gradient in its argument's shape, the broadcast axes and the heads that share a key summed away.

        The parts may have been written to memory in the output format first; or all were one sum of that many terms.
        """
        shape = self.shapes[name]
        if name in ("softcap", "alibi_slopes"):
            near = near.sum(axis=(-2, -1))
        if name in "kv" and near.ndim > 2 and len(shape) > 2 and 1 < shape[-3] < near.shape[-3]:
            near = near.reshape(*near.shape[:-3], shape[-3], -1, *near.shape[-2:])
            shape = (*shape[:-2], 1, *shape[-2:])
        if near.shape == shape:
            return near
        terms = near.value.size // max(int(np.prod(shape)), 1)
        depth = (near.depth.max(initial=0) + 1) * terms
        if name in WHOLE:
            near.inherited = near.inherited + self.model.rounding(self.model.out, near.upper)
        near = reduce_to(near, shape)
        near.depth = np.full(near.shape, depth)
        return near.reshape(*self.shapes[name])


def as_operand(ds):
    """ds as a kernel with low-precision products has it: rounded once, for all that is made of it."""
    if ds.model.rounds_inputs:
        return ds
    ds = ds.rounded(ds.model.operand)
    ds.given = True
    return ds


def still_operand(ds):
    """ds times a factor: its relative rounding stays what it was, before or after; it may underflow once more."""
    settled = ds.settled()
    if not ds.model.rounds_inputs:
        settled.inherited = settled.inherited + ds.model.lost(ds.model.operand)
        settled.given = True
    return settled


def allowed_keys(options):
    """All that masks, as one dense array: `allowed` and a bias of −inf; None where there is nothing."""
    allowed, bias = options.get("allowed"), options.get("bias")
    if bias is not None and np.isneginf(bias).any():
        banned = np.isneginf(bias)
        allowed = ~banned if allowed is None else allowed & ~banned
    return allowed


def with_column(x, last):
    """x with one more column, a value for each row or for all."""
    column = np.broadcast_to(last[..., None, None] if last.ndim else last, (*x.shape[:-1], 1))
    return concatenate([x, column], axis=-1)


def with_true_column(allowed):
    return np.concatenate([allowed, np.ones((*allowed.shape[:-1], 1), bool)], axis=-1)
