"""One long case, run: the candidate called once on the whole, its results compared at the rows and keys of a sample."""

from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from zlib import crc32

import numpy as np

from attention_ref.oracle.bounds import precision
from attention_ref.oracle.bounds.number_formats import widened
from attention_ref.oracle.bounds.sampled import at_keys, at_rows, no_bound_at_keys
from attention_ref.oracle.report.text import plural
from attention_ref.oracle.run import runner as whole
from attention_ref.oracle.run import sampling
from attention_ref.oracle.run.compare import Comparison
from attention_ref.pipeline.recorder import has_lse
from attention_ref.pipeline.sample import through_keys
from attention_ref.pipeline.tiled import execute, memory
from attention_ref.pipeline.tiled.problem import Problem, refusal

AXIS = {"o": -2, "lse": -1, "dq": -2, "dk": -2, "dv": -2}
LISTED = 4


def run(job):
    return whole.run(job, SampledRunner)


class SampledTruth:
    """As `Truth`, at some rows (o, lse, dq) and some keys (dk, dv)."""

    def __init__(self, rule, inputs, model, rows, keys, with_dlse=False):
        self.rule, self.inputs, self.model, self.with_dlse = rule, inputs, model, with_dlse
        self.rows, self.keys = rows, keys
        self.telling = None

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
    def has_lse(self):
        return has_lse(self.rule.module.normalizer(self.inputs.options))

    @property
    def has_dlse(self):
        return self.with_dlse and self.has_lse

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

    def rest(self):
        """Let go of all that is large until it is asked for again: a candidate may need the room."""
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

    def bounds(self, backward=False, statistical=False):
        """At the rows."""
        model = precision.find(self.model, statistical)
        cotangents = self.cotangent_at(self.rows) if backward else ()
        found, telling = at_rows(self.problem, self.rows, model, *cotangents)
        self.telling = telling if self.telling is None else self.telling
        return found

    def bounds_at_keys(self, statistical=False):
        if no_bound_at_keys(self.problem.pipeline, self.given):
            return {}
        rows, saved, _ = self.through_keys
        every = len(rows) == self.problem.place.queries
        cotangents = self.cotangent_at(... if every else rows)
        return at_keys(self.problem, self.keys, precision.find(self.model, statistical), rows, saved, *cotangents)


def compact(value):
    """Does a copy of an option lie in memory as it does itself?"""
    parts = value if isinstance(value, tuple) else (value,)
    return all(x.flags.c_contiguous for x in parts if isinstance(x, np.ndarray))


class SampledRunner(whole.Runner):
    """The run of one job at the rows and keys of a sample; the rest is looked at only for NaN."""

    def __init__(self, job):
        super().__init__(job)
        size, rng = self.case.size, np.random.default_rng([job.seed, crc32(b"sample"), crc32(job.case.name.encode())])
        self.rows = sampling.chosen(size.queries, job.sample, rng)
        self.keys = sampling.chosen(size.keys, job.sample, rng)
        self.whole: dict = {}
        self.noted: dict = {}

    @cached_property
    def bounds_at_keys(self):
        return self.truth.bounds_at_keys()

    @cached_property
    def band_at_keys(self):
        return self.truth.bounds_at_keys(statistical=True)

    def delta(self, result, statistical=False):
        if result not in ("dk", "dv"):
            return super().delta(result, statistical)
        return (self.band_at_keys if statistical else self.bounds_at_keys).get(whole.input_of(result))

    def fresh(self):
        """Inputs of their own for a call: copies of the first, where copies lie in memory as these do."""
        drawn = getattr(self, "inputs", None)
        alike = drawn is not None and self.case.layout == "contiguous" and all(map(compact, drawn.options.values()))
        return deepcopy(drawn) if alike else super().fresh()

    @cached_property
    def truth(self):
        return SampledTruth(self.rule, self.inputs, self.job.model, self.rows, self.keys, self.with_dlse())

    def run(self):
        reason = refusal(self.rule.module, self.inputs.options)
        if reason:
            return self.finished("unsupported", reason.replace("; leave tile= out", ""), [])
        found = super().run()
        if found.results:
            found.sample = self.facts(found)
        return found

    def evidence(self, sides):
        """As of a whole case, at the sample; without the inputs, which are long, and drawn again from the seed."""
        return super().evidence(sides) | {"inputs": None}

    def facts(self, found):
        """What a report says about the sample."""
        size = self.case.size
        back = any(c.result in ("dk", "dv") and c.verdict != "unsupported" for c in found.results)
        return {
            "rows": self.rows.tolist(),
            "keys": self.keys.tolist() if back else [],
            "of_rows": size.queries,
            "of_keys": size.keys,
            "telling": self.truth.telling,
        }

    def again(self, call, first):
        """The candidate runs once: it may take minutes."""
        return first, None

    def no_bound(self, name):
        reason = no_bound_at_keys(self.rule.module, self.truth.given) if name in ("dk", "dv") else ""
        return reason or super().no_bound(name)

    def no_gradient(self, name):
        return f"{name} is a sum over all pairs, which a sample does not give"

    def push(self):
        results, trouble = super().push()
        self.whole = {name: results[name] for name in ("o", "lse") if name in results}
        return self.cut(self.whole), trouble

    def pull(self, results):
        self.truth.rest()
        (found, trouble), self.whole = super().pull(self.whole), {}
        return self.cut(found), trouble

    def cut(self, results):
        """The results at the sample; notes which have not the shape of the whole, or a NaN anywhere."""
        out, wanted = {}, self.shapes()
        for name, x in results.items():
            if name not in wanted:
                out[name] = x
                continue
            if x.shape != wanted[name]:
                self.noted[name] = f"{name} has shape {x.shape}, expected {wanted[name]}"
                continue
            nan = np.isnan(x) if x.dtype.kind in "fcV" else np.zeros(x.shape, bool)
            strange = nan if name == "lse" else np.logical_or.reduce(nan, axis=-1)
            if strange.any() and self.case.options.get("empty_row") != "nan" and self.case.poison is None:
                what = "row" if name in ("o", "lse", "dq") else "key"
                places = np.flatnonzero(np.logical_or.reduce(strange, axis=tuple(range(strange.ndim - 1))))
                where = f"first at {what} {places[0]}, in {plural(len(places), what)}"
                self.noted[name] = f"{name} is nan, where it should not be, {where}"
            index = self.rows if name in ("o", "lse", "dq") else self.keys
            out[name] = np.take(x, index, axis=AXIS[name])
        return out

    def shapes(self):
        """The shapes of all the results."""
        arrays, do = self.inputs.arrays, self.inputs.do
        lse = {"lse": do.shape[:-1]} if self.truth.has_lse else {}
        return {"o": do.shape} | lse | {f"d{name}": arrays[name].shape for name in "qkv"}

    def explained(self, found, wrong):
        """The comparison with how many of the sampled rows or keys are wrong, and which."""
        index, axis = (self.keys, "key") if found.result in ("dk", "dv") else (self.rows, "row")
        if wrong is None or found.worst is None:
            return found
        place = wrong.ndim + AXIS[found.result]
        hit = index[wrong.any(axis=tuple(a for a in range(wrong.ndim) if a != place))].tolist()
        listed = ", ".join(map(str, hit[:LISTED])) + ", …" * (len(hit) > LISTED)
        where = f"at {len(hit)} of {len(index)} sampled {axis}s: {listed}"
        return replace(found, where=where)

    def compare(self, side, second):
        super().compare(side, second)
        found = {c.result: self.placed(c) for c in side.comparisons}
        for name, sentence in self.noted.items():
            if name not in found or found[name].verdict != "fail":
                found[name] = Comparison(name, "fail", sentence)
        side.comparisons[:], self.noted = found.values(), {}

    def placed(self, found):
        """The comparison with the row or key of the whole, instead of its number in the sample."""
        if found.worst is None or found.result not in AXIS:
            return found
        index, at = self.keys if found.result in ("dk", "dv") else self.rows, list(found.worst.index)
        at[AXIS[found.result]] = int(index[at[AXIS[found.result]]])
        return replace(found, worst=replace(found.worst, index=tuple(at)))
