"""The view of a long case at some rows and keys: the candidate is called once on the whole, and compared there."""

from copy import deepcopy
from functools import cached_property
from zlib import crc32

import numpy as np

from attention_ref.oracle.bounds import number_formats, precision
from attention_ref.oracle.bounds.number_formats import widened
from attention_ref.oracle.bounds.sampled import at_keys, at_rows, no_bound_at_keys
from attention_ref.oracle.cases.case import build
from attention_ref.oracle.run import sampling
from attention_ref.oracle.run.localize import SampledPlace
from attention_ref.oracle.run.trouble import Trouble, TroubleKind
from attention_ref.oracle.run.truth import input_of
from attention_ref.pipeline.recorder import has_lse
from attention_ref.pipeline.sample import through_keys
from attention_ref.pipeline.tiled import execute, memory
from attention_ref.pipeline.tiled.problem import Problem, refusal

AXIS = {"o": -2, "lse": -1, "dq": -2, "dk": -2, "dv": -2}
AT_KEYS = ("dk", "dv")


class SampledTruth:
    """As `Truth`, at some rows (o, lse, dq) and some keys (dk, dv)."""

    def __init__(self, rule, inputs, model, rows, keys, with_dlse=False):
        self.rule, self.inputs, self.model, self.with_dlse = rule, inputs, model, with_dlse
        self.rows, self.keys = rows, keys
        self.detectable_key_share = None
        self.bounds_by_kind: dict = {}

    @cached_property
    def options(self):
        return {name: widened(x) for name, x in self.inputs.options.items()}

    @cached_property
    def given(self):
        arrays = {name: widened(x) for name, x in self.inputs.arrays.items()}
        given, settings = self.rule.check(self.rule.named((), arrays | self.options))
        return given | settings

    @cached_property
    def problem(self):
        return Problem(self.rule.module, self.given, "auto", keeps=False)

    @cached_property
    def cotangents(self):
        cotangents = {"o": widened(self.inputs.do)}
        if self.has_dlse:
            cotangents["lse"] = widened(self.inputs.dlse)
        return cotangents

    @property
    def has_dlse(self):
        return self.with_dlse and has_lse(self.rule.module.normalizer(self.inputs.options))

    @cached_property
    def at_rows(self):
        part = self.problem.chosen(rows=self.rows)
        return part, execute.forward(part, None)

    @cached_property
    def through_keys(self):
        """(the rows that see the keys, what forward gives for them, dk and dv)"""
        do, dlse = self.cotangent_at(...)
        rows, saved, grads = through_keys(self.problem, self.keys, do, dlse, None)
        return rows, saved, {name: grads[name] for name in "kv"}

    def release(self):
        """Let go of all that is large until it is asked for again: a candidate may need the memory."""
        for name in ("given", "problem", "cotangents", "at_rows", "through_keys"):
            self.__dict__.pop(name, None)
        memory.release()

    def cotangent_at(self, rows):
        """do and dlse at some rows; None for no dlse."""
        do, dlse = self.cotangents["o"], self.cotangents.get("lse")
        if rows is ...:
            return do, dlse
        return do[..., rows, :], None if dlse is None else dlse[..., rows]

    def forward(self):
        _, saved = self.at_rows
        return {name: saved[name] for name in ("o", "lse") if name in saved}

    def stages(self):
        return {}

    def backward(self):
        part, saved = self.at_rows
        dq = execute.backward(part.with_saved(saved, *self.cotangent_at(self.rows)), None)["q"]
        _, _, grads = self.through_keys
        return {"q": dq, **grads}

    def bound_of(self, result, backward=False, statistical=False):
        """The bound on a result, or the band that independent roundings stay in; None where there is none."""
        kind = result in AT_KEYS, backward, statistical
        if kind not in self.bounds_by_kind:
            bounds = self.bounds_at_keys(statistical) if result in AT_KEYS else self.bounds(backward, statistical)
            self.bounds_by_kind[kind] = bounds
        return self.bounds_by_kind[kind].get(input_of(result))

    def bounds(self, backward=False, statistical=False):
        """At the rows."""
        model = precision.find(self.model, statistical)
        cotangents = self.cotangent_at(self.rows) if backward else ()
        bounds, share = at_rows(self.problem, self.rows, model, *cotangents)
        if self.detectable_key_share is None:
            self.detectable_key_share = share
        return bounds

    def bounds_at_keys(self, statistical=False):
        if no_bound_at_keys(self.problem.pipeline, self.given):
            return {}
        rows, saved, _ = self.through_keys
        every = len(rows) == self.problem.place.queries
        cotangents = self.cotangent_at(... if every else rows)
        return at_keys(self.problem, self.keys, precision.find(self.model, statistical), rows, saved, *cotangents)

    def term(self, result, index):
        """The bounds of a sample are not split by the kind of rounding."""
        return ""


class Sample:
    """The view of a case at the rows and keys of a sample; the rest is looked at for shape and NaN only."""

    calls = 1  # a second one may take minutes

    def __init__(self, job, rule):
        self.job, self.case, self.rule = job, job.case, rule
        self.inputs = self.drawn_inputs()
        size, rng = self.case.size, np.random.default_rng([job.seed, crc32(b"sample"), crc32(job.case.name.encode())])
        self.rows = sampling.chosen(size.queries, job.sample, rng)
        self.keys = sampling.chosen(size.keys, job.sample, rng)

    @property
    def evidence_inputs(self):
        """None: they are long, and drawn again from the seed."""
        return None

    def drawn_inputs(self):
        return build(self.case, self.rule, number_formats.find(self.job.dtype), self.job.seed)

    def new_inputs(self):
        """Copies of the first inputs, which is faster than to draw them, where copies lie in memory as these do."""
        if self.case.layout == "contiguous" and all(map(copied_alike, self.inputs.options.values())):
            return deepcopy(self.inputs)
        return self.drawn_inputs()

    def refusal(self):
        reason = refusal(self.rule.module, self.inputs.options)
        return Trouble(TroubleKind.UNFIT, {"reason": reason}) if reason else None

    def truth(self, with_dlse):
        return SampledTruth(self.rule, self.inputs, self.job.model, self.rows, self.keys, with_dlse)

    def before_backward(self, truth):
        truth.release()

    def results_kept(self, results):
        """alpha and stages are as large as all pairs."""
        return {name: results[name] for name in ("o", "lse") if name in results}

    def axis_of(self, result):
        """("row" or "key", the sampled indices of it)."""
        return ("key", self.keys) if result in AT_KEYS else ("row", self.rows)

    def cut(self, results):
        """(the results at the sample, {name: Trouble} of those of a wrong shape, or with a NaN anywhere)."""
        sampled, troubles, shapes = {}, {}, self.shapes()
        for name, x in results.items():
            if name not in shapes:
                sampled[name] = x
            elif x.shape != shapes[name]:
                troubles[name] = Trouble(TroubleKind.SHAPE, {"result": name, "got": x.shape, "want": shapes[name]})
            else:
                sampled[name] = np.take(x, self.axis_of(name)[1], axis=AXIS[name])
                lines = self.nan_lines(name, x)
                if lines.size:
                    axis, _ = self.axis_of(name)
                    facts = {"result": name, "axis": axis, "first": int(lines[0]), "lines": (lines.size, axis)}
                    troubles[name] = Trouble(TroubleKind.NAN_IN_LINES, facts)
        return sampled, troubles

    def nan_lines(self, name, x):
        """The rows or keys of the whole with a NaN that should not be there."""
        may_be_nan = self.case.options.get("empty_row") == "nan" or self.case.poison is not None
        if may_be_nan or x.dtype.kind not in "fcV":
            return np.arange(0)
        axis = x.ndim + AXIS[name]
        return np.flatnonzero(np.isnan(x).any(axis=tuple(a for a in range(x.ndim) if a != axis)))

    def shapes(self):
        """The shapes of all the results."""
        arrays, do = self.inputs.arrays, self.inputs.do
        shapes = {"o": do.shape} | {f"d{name}": arrays[name].shape for name in "qkv"}
        if has_lse(self.rule.module.normalizer(self.inputs.options)):
            shapes["lse"] = do.shape[:-1]
        return shapes

    def place(self, result, wrong, truth):
        """Which of the sampled rows or keys are wrong."""
        if wrong is None:
            return None
        axis, indices = self.axis_of(result)
        along = wrong.ndim + AXIS[result]
        hit = wrong.any(axis=tuple(a for a in range(wrong.ndim) if a != along))
        return SampledPlace(axis, tuple(indices[hit].tolist()), len(indices))

    def index_in_whole(self, result, index):
        if result not in AXIS:
            return index
        _, indices = self.axis_of(result)
        whole = list(index)
        whole[AXIS[result]] = int(indices[whole[AXIS[result]]])
        return tuple(whole)

    def no_bound(self, result, truth):
        reason = no_bound_at_keys(self.rule.module, truth.given) if result in AT_KEYS else ""
        if reason:
            return Trouble(TroubleKind.NO_BOUND_IN_SAMPLE, {"reason": reason})
        return Trouble(TroubleKind.NO_BOUND, {"result": result})

    def no_gradient(self, result):
        return Trouble(TroubleKind.SUM_OVER_PAIRS, {"result": result})

    def facts(self, comparisons, truth):
        """What a report says about the sample."""
        size = self.case.size
        compared_at_keys = any(c.result in AT_KEYS and c.verdict != "unsupported" for c in comparisons)
        return {
            "rows": self.rows.tolist(),
            "keys": self.keys.tolist() if compared_at_keys else [],
            "of_rows": size.queries,
            "of_keys": size.keys,
            "detectable_key_share": truth.detectable_key_share,
        }


def copied_alike(value):
    """Whether a copy of an option lies in memory as the option itself does."""
    parts = value if isinstance(value, tuple) else (value,)
    return all(x.flags.c_contiguous for x in parts if isinstance(x, np.ndarray))
