"""One case, run: the candidate called, forward and backward, and everything it returned compared.

What is compared, all or a sample, is the view's: `Whole` and `Sample` answer the same questions.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from time import perf_counter

import numpy as np

from attention_ref.backend.declare import declared, takes_dlse
from attention_ref.oracle.bounds import number_formats
from attention_ref.oracle.run import candidate
from attention_ref.oracle.run.candidate import Call
from attention_ref.oracle.run.compare import Comparison, Wanted, compare
from attention_ref.oracle.run.job import CaseRun, Job, run_of
from attention_ref.oracle.run.localize import broken_stage
from attention_ref.oracle.run.sampled import Sample
from attention_ref.oracle.run.trouble import Trouble, TroubleKind
from attention_ref.oracle.run.truth import RESULTS, STAGES, input_of
from attention_ref.oracle.run.whole import Whole
from attention_ref.pipeline.rule import find

RANK = ("error", "fail", "nondeterministic", "suspicious", "pass", "unsupported")
WORTH_A_BAND = 0.005  # the statistical band is never below this part of the bound: below it there is nothing to suspect


@dataclass
class Direction:
    """The forward or the backward of a run: what was wanted, what came in the first call, the trouble with the call."""

    wanted: dict[str, Wanted]
    got: dict[str, np.ndarray]
    trouble: Trouble | None
    comparisons: list[Comparison] = field(default_factory=list)


def run(job: Job) -> CaseRun:
    start = perf_counter()
    with np.errstate(all="ignore"):
        case_run = Runner(job).run()
    case_run.seconds = perf_counter() - start
    return case_run


class Runner:
    """The run of one job."""

    def __init__(self, job):
        self.job, self.case = job, job.case
        self.rule, self.fmt = find(job.rule), number_formats.find(job.dtype)
        self.view = (Whole if job.sample is None else Sample)(job, self.rule)
        self.returned: dict = {}  # whole results of the forward pass, until the backward has had them
        self.returns_lse = False

    @property
    def inputs(self):
        return self.view.inputs

    @cached_property
    def truth(self):
        return self.view.truth(self.with_dlse())

    @property
    def differentiates(self):
        return self.job.backward is not None and self.case.backward

    def with_dlse(self):
        """Whether the backward takes a cotangent of lse."""
        if not self.differentiates:
            return False
        if getattr(self.job.backward, "needs_lse", False) and not self.returns_lse:
            return False
        return takes_dlse(self.job.backward)

    def run(self):
        trouble = self.view.refusal() or self.not_declared(self.job.candidate, 3)
        if trouble:
            return run_of(self.job, trouble.verdict, trouble)
        directions = [self.forward()]
        if self.differentiates:
            directions.append(self.backward(directions[0].got))
        comparisons = [c for direction in directions for c in direction.comparisons]
        verdict, trouble = decide([direction.trouble for direction in directions], comparisons)
        result = run_of(self.job, verdict, trouble, comparisons)
        if verdict in ("fail", "error", "nondeterministic"):
            got = directions[0].got
            result.broken_stage = broken_stage(got, self.truth.stages(), self.fmt) if got else None
            result.evidence = self.evidence(directions)
        if comparisons and isinstance(self.view, Sample):
            result.sample = self.view.facts(comparisons, self.truth)
        return result

    def not_declared(self, function, positional, role="forward"):
        """The Trouble that a function does not declare options of the case; None if it does."""
        lacking = candidate.missing(self.inputs.options, declared(function, positional))
        return Trouble(TroubleKind.NOT_DECLARED, {"options": tuple(lacking)}, role) if lacking else None

    def evidence(self, directions):
        """What a diagnosis needs: the inputs, what came, what was wanted and the bounds; whether dlse went in."""
        wanted = {name: x for direction in directions for name, x in direction.wanted.items()}
        return {
            "case": self.case,
            "inputs": self.view.evidence_inputs,
            "got": {name: x for direction in directions for name, x in direction.got.items()},
            "want": {name: x.value for name, x in wanted.items()},
            "bounds": {name: x.delta for name, x in wanted.items()},
            "dlse": self.with_dlse(),
        }

    def forward(self) -> Direction:
        results, trouble = self.call_forward()
        self.returned, self.returns_lse = self.view.results_kept(results), "lse" in results
        got, outside = self.view.cut(self.returned)
        second = got
        if trouble is None and self.view.calls > 1:
            second, trouble = self.call_forward()
        direction = Direction(self.wanted_of(got, self.truth.forward() if got else {}), got, trouble)
        self.compare(direction, second, outside)
        for name in got:
            if name not in direction.wanted and name not in STAGES:
                kind = TroubleKind.NO_MEANING if name in RESULTS else TroubleKind.UNKNOWN_RESULT
                direction.comparisons.append(Comparison(str(name), Trouble(kind, {"result": str(name)})))
        return direction

    def backward(self, forward_results) -> Direction:
        trouble = self.not_declared(self.job.backward, 6, "backward")
        if "o" not in forward_results:
            trouble = Trouble(TroubleKind.NO_FORWARD)
        if trouble:
            return Direction({}, {}, None, [Comparison(f"d{name}", trouble) for name in "qkv"])
        self.view.before_backward(self.truth)
        results, trouble = self.call_backward()
        got, outside = self.view.cut(results)
        second = got
        if trouble is None and self.view.calls > 1:
            second, trouble = self.call_backward()
        self.returned = {}
        values = {f"d{name}": x for name, x in self.truth.backward().items()}
        direction = Direction(self.wanted_of(got, values), got, trouble)
        self.compare(direction, second, outside)
        direction.comparisons += self.not_compared(direction, values)
        return direction

    def not_compared(self, direction, values):
        """A Comparison for each gradient that was not returned, and for each that is none of the case."""
        trouble = direction.trouble
        if trouble and trouble.verdict == "unsupported":
            return [Comparison(name, trouble) for name in values]
        if trouble and trouble.verdict != "fail":
            return []
        compared = {c.result for c in direction.comparisons}
        missing = [name for name in values if name not in compared]
        extra = [name for name in direction.got if name not in values]
        return [
            *(Comparison(name, Trouble(TroubleKind.NOT_RETURNED, {"result": name})) for name in missing),
            *(Comparison(name, self.view.no_gradient(name)) for name in extra),
        ]

    def call_forward(self):
        """One call of the candidate, with arrays of its own: what it writes into them changes nothing here."""
        inputs = self.view.new_inputs()
        return candidate.run(Call(self.job.candidate, inputs.arrays, inputs.options, self.job.timeout))

    def call_backward(self):
        """One call of the backward, with the candidate's own o and lse; its results under dq, dk…"""
        inputs = self.view.new_inputs()
        arrays = {"do": inputs.do, **inputs.arrays, "o": self.returned["o"].copy()}
        arrays["lse"] = self.returned["lse"].copy() if "lse" in self.returned else None
        options = dict(inputs.options)
        if self.with_dlse():
            options["dlse"] = inputs.dlse if self.truth.has_dlse else None
        gradients, trouble = candidate.run(Call(self.job.backward, arrays, options, self.job.timeout, "backward"))
        return {f"d{name}": x for name, x in gradients.items()}, trouble

    def wanted_of(self, got, values):
        """{name: Wanted} of the values that came."""
        return {name: self.wanted(values[name], self.bound_of(name), name == "lse") for name in values if name in got}

    def wanted(self, value, delta, wide=False):
        dtypes = (self.fmt.dtype, np.dtype(self.fmt.wide)) if wide else (self.fmt.dtype,)
        return Wanted(value, delta, self.fmt, tuple(dict.fromkeys(dtypes)))

    def bound_of(self, result, statistical=False):
        return self.truth.bound_of(result, self.differentiates, statistical)

    def compare(self, direction, second, outside):
        """Compare what came of a direction; `outside` is the trouble with what the view does not compare."""
        compared = {}
        for name, wanted in direction.wanted.items():
            compared[name] = self.judged(name, wanted, direction.got[name], second.get(name))
        for name, trouble in outside.items():
            if name not in compared or compared[name].verdict != "fail":
                compared[name] = Comparison(name, trouble)
        direction.comparisons += compared.values()

    def judged(self, name, wanted, first, again):
        """The Comparison of one result, which the second of two runs gave as `again`."""
        if wanted.delta is None:
            return Comparison(name, self.view.no_bound(name, self.truth))
        comparison, wrong = compare(name, first, wanted)
        varies = again is None or (first.dtype != object and first.tobytes() != again.tobytes())
        if varies and comparison.verdict == "pass":
            comparison, wrong = self.compare_again(comparison, again, wanted)
        comparison = replace(comparison, varies=varies)
        if comparison.verdict == "fail":
            comparison = self.explained(comparison, wrong)
        elif comparison.verdict == "pass" and comparison.worst is not None and comparison.worst.score > WORTH_A_BAND:
            comparison = self.suspected(comparison, first, wanted)
        if comparison.worst is None:
            return comparison
        return replace(
            comparison, worst=replace(comparison.worst, index=self.view.index_in_whole(name, comparison.worst.index))
        )

    def compare_again(self, comparison, again, wanted):
        """The Comparison where the second run gave other bits than the first, which passed."""
        name = comparison.result
        if again is None:
            return replace(comparison, trouble=Trouble(TroubleKind.MISSING_IN_SECOND_RUN, {"result": name})), None
        second, wrong = compare(name, again, wanted)
        if second.verdict == "fail":
            return replace(second, trouble=replace(second.trouble, in_second_run=True)), wrong
        return replace(comparison, trouble=Trouble(TroubleKind.VARIES, {"result": name})), wrong

    def explained(self, comparison, wrong):
        """The comparison with where the error is and what the bound is made of."""
        comparison = replace(comparison, place=self.view.place(comparison.result, wrong, self.truth))
        if comparison.worst is None or not np.isfinite(comparison.worst.score):
            return comparison
        term = self.truth.term(input_of(comparison.result), comparison.worst.index)
        return replace(comparison, worst=replace(comparison.worst, term=term))

    def suspected(self, comparison, got, wanted):
        """A result inside its bound, held against the band that independent roundings stay in."""
        band = np.broadcast_to(self.bound_of(comparison.result, statistical=True), wanted.value.shape)
        strict, _ = compare(comparison.result, got, replace(wanted, delta=band))
        if strict.verdict == "pass":
            return comparison
        score = strict.worst.score
        trouble = Trouble(TroubleKind.OUT_OF_BAND, {"result": comparison.result, "score": score})
        return replace(comparison, trouble=trouble, band=score)


def decide(troubles, comparisons):
    """(the verdict on a run, which is its worst; the Trouble that it comes from, None if there is none)."""
    troubles = sorted((trouble for trouble in troubles if trouble), key=lambda trouble: RANK.index(trouble.verdict))
    if troubles and troubles[0].verdict in ("error", "fail"):
        return troubles[0].verdict, troubles[0]
    if troubles and all(c.verdict == "unsupported" for c in comparisons):
        return "unsupported", troubles[0]
    for verdict in RANK:
        for comparison in comparisons:
            if comparison.verdict == verdict:
                return verdict, comparison.trouble
    return "unsupported", Trouble(TroubleKind.NOTHING_RETURNED)
