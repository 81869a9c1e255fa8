"""One case, run: the candidate called twice, forward and backward, and everything it returned compared."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from time import perf_counter

import numpy as np

from attention_ref.backend.declare import declared, takes_dlse
from attention_ref.oracle.bounds import number_formats
from attention_ref.oracle.cases.case import Case, Size, build
from attention_ref.oracle.diagnose.localize import broken_stage, locate
from attention_ref.oracle.run import candidate
from attention_ref.oracle.run.candidate import Call, Trouble
from attention_ref.oracle.run.compare import Comparison, Wanted, compare
from attention_ref.oracle.run.truth import RESULTS, STAGES, Truth, allowed_pairs
from attention_ref.pipeline.rule import find

RANK = ("error", "fail", "nondeterministic", "suspicious", "pass", "unsupported")
BACKWARD = {"it": "the backward", "its": "the backward's"}
WORTH_A_BAND = 0.005  # the statistical band is never below this part of the bound: below it there is nothing to suspect


@dataclass(frozen=True)
class Job:
    """All that one run needs; it can be sent to another process."""

    case: Case
    dtype: str
    model: str
    rule: str
    candidate: object
    backward: object = None
    seed: int = 0
    timeout: float | None = None
    sample: int | None = None


@dataclass
class CaseRun:
    """What came of one case in one dtype."""

    case: str
    why: str
    flags: tuple
    size: Size
    dtype: str
    model: str
    verdict: str
    sentence: str
    results: list = field(default_factory=list)
    seconds: float = 0.0
    stage: str = ""
    lacking: tuple = ()
    evidence: dict | None = field(default=None, repr=False)
    sample: dict | None = None


@dataclass
class Side:
    """One direction of a run: what was wanted, what came in the two calls, and the trouble there was."""

    wanted: dict
    got: dict
    trouble: Trouble | None
    comparisons: list


def run(job, kind=None):
    start = perf_counter()
    with np.errstate(all="ignore"):
        found = (kind or Runner)(job).run()
    found.seconds = perf_counter() - start
    return found


class Runner:
    """The run of one job."""

    def __init__(self, job):
        self.job, self.case = job, job.case
        self.rule, self.fmt = find(job.rule), number_formats.find(job.dtype)
        self.inputs = self.fresh()
        self.returned: dict = {}

    @cached_property
    def truth(self):
        return Truth(self.rule, self.inputs, self.job.model, self.with_dlse())

    @cached_property
    def bounds(self):
        return self.truth.bounds(self.differentiates)

    @cached_property
    def band(self):
        return self.truth.bounds(self.differentiates, statistical=True)

    def delta(self, result, statistical=False):
        """The bound on a result, or the band that independent roundings stay in; None where there is none."""
        return (self.band if statistical else self.bounds).get(input_of(result))

    def fresh(self):
        return build(self.case, self.rule, self.fmt, self.job.seed)

    def run(self):
        lacking = candidate.missing(self.inputs.options, declared(self.job.candidate, 3))
        if lacking:
            found = self.finished("unsupported", f"the candidate does not declare {listed(lacking)}", [])
            return replace(found, lacking=tuple(lacking))
        sides = [self.forward()]
        if self.differentiates:
            sides.append(self.backward(sides[0]))
        comparisons = [c for side in sides for c in side.comparisons]
        verdict, sentence = decided([side.trouble for side in sides], comparisons)
        found = self.finished(verdict, sentence, comparisons)
        if verdict in ("fail", "error", "nondeterministic"):
            found.stage = broken_stage(sides[0].got, self.truth.stages(), self.fmt) if sides[0].got else ""
            found.evidence = self.evidence(sides)
        return found

    def with_dlse(self):
        """Whether the backward takes a cotangent of lse."""
        if not self.differentiates:
            return False
        if getattr(self.job.backward, "needs_lse", False) and "lse" not in self.returned:
            return False
        return takes_dlse(self.job.backward)

    @property
    def differentiates(self):
        return self.job.backward is not None and self.case.backward

    def finished(self, verdict, sentence, comparisons):
        job, case = self.job, self.case
        return CaseRun(case.name, case.why, case.flags, case.size, job.dtype, job.model, verdict, sentence, comparisons)

    def evidence(self, sides):
        """What a diagnosis needs: the inputs, what came, what was wanted and the bounds; whether dlse went in."""
        got = {name: x for side in sides for name, x in side.got.items()}
        want = {name: wanted.value for side in sides for name, wanted in side.wanted.items()}
        bounds = {name: wanted.delta for side in sides for name, wanted in side.wanted.items()}
        dlse = self.with_dlse()
        return {"case": self.case, "inputs": self.inputs, "got": got, "want": want, "bounds": bounds, "dlse": dlse}

    def forward(self):
        first, trouble = self.push()
        self.returned = first
        second = first
        if trouble is None:
            second, trouble = self.again(self.push, first)
        values = self.truth.forward() if first else {}
        wanted = {n: self.wanted(values[n], self.delta(n), n == "lse") for n in values if n in first}
        side = Side(wanted, first, trouble, [])
        self.compare(side, second)
        for name in first:
            if name not in wanted and name not in STAGES:
                known = name in RESULTS
                reason = "has no meaning under this normalizer" if known else "is no result that this oracle knows"
                side.comparisons.append(Comparison(str(name), "unsupported", f"{name} {reason}"))
        return side

    def backward(self, forward):
        names = declared(self.job.backward, 6)
        lacking = candidate.missing(self.inputs.options, names)
        reason = ""
        if "o" not in forward.got:
            reason = "the forward pass gave nothing to go back from"
        elif lacking:
            reason = f"the backward does not declare {listed(lacking)}"
        if reason:
            return Side({}, {}, None, [Comparison(f"d{name}", "unsupported", reason) for name in "qkv"])
        first, trouble = self.pull(forward.got)
        second = first
        if trouble is None:
            second, trouble = self.again(lambda: self.pull(forward.got), first)
        values = {f"d{name}": x for name, x in self.truth.backward().items()}
        wanted = {n: self.wanted(values[n], self.delta(n)) for n in values if n in first}
        side = Side(wanted, first, trouble, [])
        self.compare(side, second)
        if not (trouble and trouble.verdict != "fail"):
            told = [c.result for c in side.comparisons]
            lost = [name for name in values if name not in told]
            side.comparisons += [Comparison(n, "unsupported", f"the backward does not return {n}") for n in lost]
            extra = [n for n in first if n not in values]
            side.comparisons += [Comparison(n, "unsupported", self.no_gradient(n)) for n in extra]
        elif trouble.verdict == "unsupported":
            side.comparisons += [Comparison(n, "unsupported", f"backward: {trouble.sentence}") for n in values]
        return side

    def again(self, call, first):
        """The second of two calls, which has to give what the first gave."""
        return call()

    def no_bound(self, name):
        return f"there is no bound for {name} here"

    def no_gradient(self, name):
        return f"{name} is no gradient of this case"

    def push(self):
        """One call of the candidate, with arrays of its own: what it writes into them changes nothing here."""
        inputs = self.fresh()
        return candidate.run(Call(self.job.candidate, inputs.arrays, inputs.options, self.job.timeout))

    def pull(self, results):
        """One call of the backward, with the candidate's own o and lse; its results under dq, dk…"""
        inputs = self.fresh()
        arrays = {"do": inputs.do, **inputs.arrays, "o": results["o"].copy()}
        arrays["lse"] = results["lse"].copy() if "lse" in results else None
        options = dict(inputs.options)
        if self.with_dlse():
            options["dlse"] = inputs.dlse if self.truth.has_dlse else None
        found, trouble = candidate.run(Call(self.job.backward, arrays, options, self.job.timeout, "backward"))
        return {f"d{name}": x for name, x in found.items()}, trouble and of_backward(trouble)

    def wanted(self, value, delta, wide=False):
        dtypes = (self.fmt.dtype, np.dtype(self.fmt.wide)) if wide else (self.fmt.dtype,)
        return Wanted(value, delta, self.fmt, tuple(dict.fromkeys(dtypes)))

    def compare(self, side, second):
        for name, wanted in side.wanted.items():
            if wanted.delta is None:
                side.comparisons.append(Comparison(name, "unsupported", self.no_bound(name)))
                continue
            first = side.got[name]
            found, wrong = compare(name, first, wanted)
            again = second.get(name)
            varies = again is None or (first.dtype != object and first.tobytes() != again.tobytes())
            if varies and found.verdict == "pass":
                found, wrong = self.compare_again(found, again, wanted)
            found = replace(found, varies=varies)
            if found.verdict == "fail":
                found = self.explained(found, wrong)
            elif found.verdict == "pass" and found.worst is not None and found.worst.score > WORTH_A_BAND:
                found = self.suspected(found, first, wanted)
            side.comparisons.append(found)

    def compare_again(self, found, again, wanted):
        """The verdict where the second run gave other bits than the first, which passed."""
        name = found.result
        if again is None:
            return replace(found, verdict="nondeterministic", sentence=f"the second run returns no {name}"), None
        second, wrong = compare(name, again, wanted)
        if second.verdict == "fail":
            return replace(second, sentence=f"in the second of two runs, {second.sentence}"), wrong
        sentence = f"{name} differs between two runs on the same inputs"
        return replace(found, verdict="nondeterministic", sentence=sentence), wrong

    def explained(self, found, wrong):
        """The comparison with where the error is and what the bound is made of."""
        allowed = None
        if found.result in ("o", "dq"):
            size = self.case.size
            allowed = allowed_pairs(size.queries, size.keys, self.truth.options)
        found = replace(found, where=locate(found.result, wrong, allowed))
        if found.worst is None or not np.isfinite(found.worst.score):
            return found
        term = self.truth.term(input_of(found.result), found.worst.index)
        return replace(found, worst=replace(found.worst, term=term))

    def suspected(self, found, got, wanted):
        """A result inside its bound, held against the band that independent roundings stay in."""
        band = np.broadcast_to(self.delta(found.result, statistical=True), wanted.value.shape)
        strict, _ = compare(found.result, got, replace(wanted, delta=band))
        if strict.verdict == "pass":
            return found
        sentence = f"{found.result} is inside its bound, but {strict.worst.score:.3g} times the statistical band"
        return replace(found, verdict="suspicious", sentence=sentence, band=strict.worst.score)


def of_backward(trouble):
    """The same trouble, with who has it: what is not said of anyone is of the candidate."""
    if trouble.verdict == "unsupported":
        return trouble
    subject, rest = trouble.sentence.split(" ", 1)
    return replace(trouble, sentence=f"{BACKWARD.get(subject, subject)} {rest}")


def input_of(result):
    """The name under which `bound` knows a result: q for dq."""
    return result if result in RESULTS else result.removeprefix("d")


def decided(troubles, comparisons):
    """The verdict on a run: its worst, and the sentence that goes with it."""
    troubles = sorted((trouble for trouble in troubles if trouble), key=lambda trouble: RANK.index(trouble.verdict))
    if troubles and troubles[0].verdict in ("error", "fail"):
        return troubles[0].verdict, troubles[0].sentence
    if troubles and all(c.verdict == "unsupported" for c in comparisons):
        return "unsupported", troubles[0].sentence
    for verdict in RANK:
        found = [c for c in comparisons if c.verdict == verdict]
        if found:
            return verdict, found[0].sentence
    return "unsupported", "it returned nothing that can be checked"


def listed(names):
    return " or ".join(f"{name}=" for name in names)
