"""The pipeline of every rule: a chain of ops, forward, and the same chain in reverse, backward.

score(q, k; θ) → ×scale → softcap → + bias → keep only the allowed → normalize → dropout → Σ_j α_ij v_j
"""

from importlib import import_module

import numpy as np

from attention_ref import normalize as normalizers
from attention_ref import score as scores
from attention_ref.adjust import alibi, bias, empty_row, keep, relative, scale, softcap
from attention_ref.errors import OptionError
from attention_ref.layer import dropout, weighted_sum
from attention_ref.op.arrays import all_finite, finite, select
from attention_ref.op.arrays import shown as brief
from attention_ref.op.op import reference
from attention_ref.op.protocol import optional
from attention_ref.op.signature import Signature
from attention_ref.op.suggest import did_you_mean
from attention_ref.pipeline.heads import grouped
from attention_ref.pipeline.options import DEFAULTS, check_options
from attention_ref.pipeline.place import FILL, Place, empty_rows
from attention_ref.pipeline.recorder import Recorder, Reverse, Step

OPTIONAL = (
    "allowed?:bool(... i j) bias?(... i j) scale?(... i j) softcap?:positive(... i j) sink?(...) alibi_slopes?(...) "
    "relative_table?[... n] q_lengths?<=i(...) k_lengths?<=j(...) q_segments?:int(... i) k_segments?:int(... j) "
    "dropout?:bool(... i j)"
)
VARIANTS = (
    {},
    {"include": ("allowed",)},
    {"include": ("scale", "softcap", "bias")},
    {"include": ("allowed", "bias"), "options": {"empty_row": "uniform"}},
    {"include": ("dropout",), "options": {"dropout_p": 0.3}},
    {"include": ("q_lengths", "k_lengths", "q_segments", "k_segments")},
    {"include": ("allowed",), "options": {"normalize": "sparsemax"}},
)
POSITIONAL = (
    {"options": {"causal": True, "align": "bottom_right"}},
    {"include": ("k_lengths",), "options": {"window": (2, 1), "align": "bottom_right"}},
    {"include": ("alibi_slopes", "relative_table"), "sizes": {"n": 8}, "options": {"align": -1}},
)
SINK = ({"include": ("sink", "allowed")},)


class Pipeline:
    """One score op, one normalizer and the stages between them, as the module of an op."""

    def __init__(self, module):
        self.module = module
        named_score = optional(module, "SCORE")
        self.score = import_module(f"{scores.__name__}.{named_score}") if named_score else module
        self.own_scale = optional(module, "scale")
        self.own_normalize = optional(module, "NORMALIZE")
        for name in ("FORMULA", "SOURCE", "ERRATUM"):
            setattr(self, name, optional(module, name))
        self.__doc__ = module.__doc__
        q, k, *parameters = Signature(self.score.SIGNATURE).arguments
        self.parameters = [parameter.name for parameter in parameters]
        self.pairwise = k.axes[0] != q.axes[0]
        refuse_names_of_options(self.parameters)
        own = [argument.declaration for argument in (q, k, *parameters)]
        inputs = " ".join([*own[:2], "v[... j e]", *own[2:], OPTIONAL])
        self.SIGNATURE = f"{inputs} -> o[... i e] alpha[... i j] lse[... i]"
        self.arguments = Signature(self.SIGNATURE).arguments
        self.VARIANTS: tuple[dict, ...] = VARIANTS
        if self.pairwise:
            self.VARIANTS += POSITIONAL
        if self.own_normalize == "softmax":
            self.VARIANTS += SINK

    def __reduce__(self):
        return made_pipeline, (type(self), reference(self.module))

    def definition(self, xp, q, k, v, **given):
        from attention_ref.pipeline import textbook

        return textbook.attention(xp, self, q, k, v, **{name: x for name, x in given.items() if x is not None})

    def forward(self, q, k, v, *, rounding=None, tile=None, executor=None, out=None, **given):
        check_options(given, rounding=rounding, executor=executor, out=out)
        if tile is not None:
            from attention_ref.pipeline import tiled

            if tiled.is_wanted(self, {"q": q, "k": k, "v": v} | given, tile, rounding is not None):
                return tiled.forward(self, {"q": q, "k": k, "v": v} | given, tile, executor, out)

        recorder = Recorder(rounding)
        if rounding is not None:
            q, k, v = rounding("q", q), rounding("k", k), rounding("v", v)
            if "bias" in given:
                given["bias"] = rounding("bias", given["bias"])
        place = Place(q.shape[-2], v.shape[-2], given, self.pairwise)
        allowed = place.allowed

        s = self.scored(recorder, q, k, allowed, given)  # [... i j]
        s = self.adjusted(recorder, s, self.factor(q, given), place, given)
        empty = empty_rows(given, allowed, s.shape)
        alpha, lse = self.normalized(recorder, s, given)
        if empty is not None:
            fill = FILL[given["empty_row"]](place.keys)
            alpha = recorder.apply("filled", empty_row, alpha, empty=empty, fill=fill, shown_as="alpha")
            # a filled row attends to every key: else the weighted sum, and its backward, would select it away again
            allowed = allowed | empty[..., None]
        weights = alpha
        if "dropout" in given:
            weights = recorder.apply("dropped", dropout, alpha, keep=given["dropout"], p=given["dropout_p"])
        o = recorder.apply("o", grouped(weighted_sum, weights, v, "v"), weights, v=v, allowed=allowed)

        tape = {name: x for name, x in recorder.shown.items() if name not in ("o", "lse")}
        if allowed is not None:
            tape["allowed"] = allowed
        return (o, alpha, lse), tape | {"recorder": recorder}

    def scored(self, recorder, q, k, allowed, given):
        """score(q, k; θ).

        Behind a mask a score may be NaN or infinite, for k may hold anything there, and 0 · NaN would spoil the
        gradients. So such scores become 0, and the step's tape is taken from a second run on q and k with every
        non-finite entry replaced.
        """
        op = grouped(self.score, q, k, "k")
        parameters = {name: given[name] for name in self.parameters if name in given}
        s = recorder.apply("score", op, q, k=k, **parameters)
        if allowed is None or all_finite(s):
            return s
        _, finite_tape = op.forward(finite(q), k=finite(k), **parameters)
        recorder.steps["score"] = Step(op, finite_tape)
        return np.where(allowed | np.isfinite(s), s, 0).astype(s.dtype, copy=False)

    def factor(self, q, given):
        """What the scores are multiplied with, or None."""
        if "scale" in given:
            return given["scale"]
        return self.own_scale(q) if self.own_scale else None

    def adjusted(self, recorder, s, factor, place, given):
        """×scale → softcap → + bias → keep only the allowed: from the scores to what is normalized."""
        if factor is not None:
            s = recorder.apply("scaled", scale, s, scale=factor)
        if "softcap" in given:
            s = recorder.apply("capped", softcap, s, softcap=given["softcap"])
        if "bias" in given:
            s = recorder.apply("biased", bias, s, bias=given["bias"])
        if "alibi_slopes" in given:
            distance = place.distance.astype(s.real.dtype)
            s = recorder.apply(
                "alibi", alibi, s, alibi_slopes=given["alibi_slopes"], distance=distance, shown_as="biased"
            )
        if "relative_table" in given:
            table = given["relative_table"]
            bucket = place.bucket(table.shape[-1])
            s = recorder.apply("relative", relative, s, relative_table=table, bucket=bucket, shown_as="biased")
        if place.allowed is not None:
            s = recorder.apply("masked", keep, s, allowed=place.allowed)
        return s

    def normalized(self, recorder, s, given):
        """(alpha, lse) of the scores; lse is None where the normalizer has none."""
        op = self.normalizer(given)
        sink = {"sink": given["sink"]} if "sink" in given else {}
        value = recorder.apply("alpha", op, s, **sink)
        return value if isinstance(value, tuple) else (value, None)

    def backward(self, cotangents, *, out=None, **tape):
        if "problem" in tape:
            from attention_ref.pipeline import tiled

            return tiled.backward(cotangents, out, **tape)

        do, dalpha, dlse = cotangents
        recorder = tape["recorder"]
        allowed = tape.get("allowed")
        if dlse is not None and "lse" not in recorder.shown:
            raise OptionError("dlse was given, and this normalizer has no lse")

        back = Reverse(recorder)
        # o = Σ_j weights_ij v_j
        dweights = back.undo("o", recorder.rounded("do", do))
        # weights = alpha · keep / (1 - p)
        dalpha_from_o = back.undo("dropped", dweights)
        if dalpha is None:
            dalpha = dalpha_from_o
        else:
            dalpha = dalpha_from_o + (dalpha if allowed is None else select(allowed, dalpha))
        # alpha = what empty_row= asks for, in the rows with nothing allowed
        dalpha = back.undo("filled", recorder.rounded("dalpha", dalpha))
        # alpha, lse = normalize(s, sink)
        ds = back.undo("alpha", (dalpha, dlse) if "lse" in recorder.shown else dalpha)
        # s = s where allowed, else -inf
        ds = back.undo("masked", ds)
        # s = s + table[bucket]
        ds = back.undo("relative", ds)
        # s = s - slope · |distance|
        ds = back.undo("alibi", ds)
        # s = s + bias
        ds = back.undo("biased", ds)
        # s = softcap · tanh(s / softcap)
        ds = back.undo("capped", ds)
        # s = s · scale
        ds = back.undo("scaled", ds)
        # s = score(q, k; θ)
        dq = back.undo("score", recorder.rounded("ds", ds))
        return back.grads | {"q": dq}

    def normalizer(self, given):
        name = given.get("normalize", self.own_normalize)
        is_known = isinstance(name, str) and f"normalize.{name}" in normalizers.ops and name != "softmax_sink"
        if not is_known:
            known = [op.rpartition(".")[2] for op in normalizers.ops if op != "normalize.softmax_sink"]
            raise OptionError(f"there is no normalizer {brief(name)}{did_you_mean(name, known)}")
        if "sink" in given:
            if name != "softmax":
                raise OptionError(f"a sink belongs to softmax; normalize={name!r} has none")
            name = "softmax_sink"
        return normalizers.ops[f"normalize.{name}"].module


def refuse_names_of_options(parameters):
    """A rule's parameter with the name of an option would be taken as both, and have two gradients."""
    options = {argument.name for argument in Signature(f"{OPTIONAL} -> s[]").arguments}
    for name in parameters:
        if name in options | DEFAULTS.keys() or name == "v":
            raise OptionError(f"the rule's parameter {name!r} has the name of an input of ar.attention; rename it")


def made_pipeline(kind, module):
    return kind(import_module(module) if isinstance(module, str) else module)
