"""The pipeline behind every rule: a chain of ops, forward, and the same chain in reverse, backward.

score(q, k; θ) → ×scale → softcap → + bias → keep only the allowed → normalize → dropout → Σ_j α_ij v_j
"""

from importlib import import_module

import numpy as np

from attention_ref import normalize as normalizers
from attention_ref import score as scores
from attention_ref.adjust import alibi, bias, empty_row, keep, relative, scale, softcap
from attention_ref.errors import OptionError
from attention_ref.layer import dropout, logsumexp, weighted_sum
from attention_ref.op.arrays import select
from attention_ref.op.arrays import shown as brief
from attention_ref.op.op import did_you_mean, is_op
from attention_ref.op.signature import Signature
from attention_ref.pipeline.heads import grouped
from attention_ref.pipeline.options import check_options
from attention_ref.pipeline.place import FILL, Place

OPTIONAL = (
    "allowed?:bool(... i j) bias?(... i j) scale?(... i j) softcap?:positive(... i j) sink?(...) alibi_slopes?(...) "
    "relative_table?[... n] q_lengths?<=i(...) k_lengths?<=j(...) q_segments?:int(... i) k_segments?:int(... j) "
    "dropout?:bool(... i j)"
)
RENAMED = {"slopes": "alibi_slopes", "table": "relative_table"}
SHOWN_AS = {"alibi": "biased", "relative": "biased", "filled": "alpha"}


def unrounded(name, x):
    return x


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
        self.score = module if is_op(module) else import_module(f"{scores.__name__}.{module.SCORE}")
        self.own_scale = getattr(module, "scale", None)
        self.own_normalize = getattr(module, "NORMALIZE", "softmax")
        self.FORMULA, self.SOURCE = module.FORMULA, module.SOURCE
        self.SLIP = getattr(module, "SLIP", "")
        self.__doc__ = module.__doc__
        q, k, *parameters = Signature(self.score.SIGNATURE).arguments
        self.parameters = [parameter.name for parameter in parameters]
        self.pairwise = k.axes[0] != q.axes[0]
        inputs = [q, k, "v[... j e]", *parameters, OPTIONAL]
        self.VARIANTS = VARIANTS + POSITIONAL * self.pairwise + SINK * (self.own_normalize == "softmax")
        self.SIGNATURE = f"{' '.join(map(str, inputs))} -> o[... i e] alpha[... i j] lse[... i]"

    def __reduce__(self):
        return by_name, (type(self), self.module.__name__)

    def definition(self, xp, q, k, v, **given):
        from attention_ref.pipeline import textbook

        return textbook.attention(xp, self, q, k, v, **{name: x for name, x in given.items() if x is not None})

    def forward(self, q, k, v, rounding=unrounded, **given):
        check_options(given | {"rounding": rounding})
        q, k, v = rounding("q", q), rounding("k", k), rounding("v", v)
        if "bias" in given:
            given["bias"] = rounding("bias", given["bias"])
        place = Place(q.shape[-2], v.shape[-2], given, self.pairwise)
        x, tape, steps = self.scored(q, k, place.allowed, given)
        x, tape["score"] = rounding("score", x), rounding("score", tape["score"])
        lse = None
        for name, op, arguments in self.stages(q, v, place, given, tape):
            if name == "alpha":
                place.look_for_empty_rows(x.shape)
            if name == "alpha" and hasattr(op, "LSE"):
                own_sink = {"sink": op.sink(x)} if hasattr(op, "sink") else {}
                lse, taped = logsumexp.forward(x, **arguments, **own_sink)
                steps["lse"] = logsumexp, taped
            x, taped = op.forward(x, **arguments)
            shown = SHOWN_AS.get(name, name)
            tape[shown] = x = rounding(shown, x)
            steps[name] = op, taped
        value = tape.pop("o"), tape["alpha"], None if lse is None else rounding("lse", lse)
        if place.allowed is not None:
            tape["allowed"] = place.seen
        return value, tape | {"steps": steps, "rounding": rounding}

    def stages(self, q, v, place, given, tape):
        """(name, op, further arguments) of every stage behind the score, in order, each op taking the last one's x."""
        factor = self.factor(q, given)
        if factor is not None:
            yield "scaled", scale, {"scale": factor}
        yield from self.adjustments(q, place, given)
        yield "alpha", self.normalizer(given), {"sink": given["sink"]} if "sink" in given else {}
        if given.get("empty_row") in FILL:
            yield "filled", empty_row, {"empty": place.empty, "fill": FILL[given["empty_row"]](place.keys)}
        if "dropout" in given:
            yield "dropped", dropout, {"keep": given["dropout"], "p": given["dropout_p"]}
        yield "o", grouped(weighted_sum, tape["alpha"], v, "v"), {"v": v, "allowed": place.seen}

    def factor(self, q, given):
        """What the scores are multiplied with, or None."""
        return given.get("scale", self.own_scale(q) if self.own_scale else None)

    def adjustments(self, q, place, given):
        """The stages between the scale and the normalizer."""
        if "softcap" in given:
            yield "capped", softcap, {"softcap": given["softcap"]}
        if "bias" in given:
            yield "biased", bias, {"bias": given["bias"]}
        if "alibi_slopes" in given:
            yield "alibi", alibi, {"slopes": given["alibi_slopes"], "distance": place.distance.astype(q.real.dtype)}
        if "relative_table" in given:
            table = given["relative_table"]
            yield "relative", relative, {"table": table, "bucket": place.bucket(table.shape[-1])}
        if place.allowed is not None:
            yield "masked", keep, {"allowed": place.allowed}

    def backward(self, cotangents, *, steps, rounding, **shown):
        do, dalpha, dlse = cotangents
        dx = rounding("do", do)
        if dlse is not None and "lse" not in steps:
            raise OptionError("dlse was given, and this normalizer has no lse")
        grads = {}
        for name, (op, taped) in reversed(steps.items()):
            if name == "lse":
                continue
            if name == ("filled" if "filled" in steps else "alpha"):
                dx = rounding("dalpha", dx if dalpha is None else dx + selected(dalpha, shown.get("allowed")))
            if name == "score":
                dx = rounding("ds", dx)
            here = op.backward(dx, **taped)
            if name == "alpha" and dlse is not None:
                here = added(here, logsumexp.backward(dlse, **steps["lse"][1]))
            if name != "score":
                dx = here.pop(next(iter(here)))
            grads |= here
        return {RENAMED.get(name, name): gradient for name, gradient in grads.items()}

    def normalizer(self, given):
        name = given.get("normalize", self.own_normalize)
        known = [op.rpartition(".")[2] for op in normalizers.ops if op != "normalize.softmax_sink"]
        if not isinstance(name, str) or name not in known:
            raise OptionError(f"there is no normalizer {brief(name)}{did_you_mean(name, known)}")
        if "sink" in given and name != "softmax":
            raise OptionError(f"a sink belongs to softmax; normalize={name!r} has none")
        return normalizers.ops["normalize.softmax_sink" if "sink" in given else f"normalize.{name}"].module

    def scored(self, q, k, allowed, given):
        """(the scores that go on, the tape, the steps); what is masked goes on, and comes back, as a finite number."""
        op = grouped(self.score, q, k, "k")
        parameters = {name: given[name] for name in self.parameters}
        s, taped = op.forward(q, k=k, **parameters)
        tape = {"score": s}
        if allowed is not None and not np.isfinite(s).all():
            _, taped = op.forward(finite(q), k=finite(k), **parameters)
            s = np.where(allowed | np.isfinite(s), s, 0).astype(s.dtype, copy=False)
        return s, tape, {"score": (op, taped)}


def by_name(kind, name):
    return kind(import_module(name))


def finite(x):
    """x with 0 for what is no finite number; x itself where all are."""
    known = np.isfinite(x)
    return x if known.all() else np.where(known, x, 0).astype(x.dtype, copy=False)


def selected(dalpha, allowed):
    return dalpha if allowed is None else select(allowed, dalpha)


def added(grads, more):
    return {name: grads[name] + more[name] for name in grads}
