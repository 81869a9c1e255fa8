"""One run as a diagnosis sees it: what went in, what came, what would be right, and what a mistake would make of it."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from attention_ref.oracle.cases.case import Inputs
from attention_ref.oracle.diagnose.faults.roundings import ARITHMETIC
from attention_ref.oracle.run.compare import compare
from attention_ref.oracle.run.runner import Runner
from attention_ref.oracle.run.truth import RESULTS, Truth

UNIT = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}
LARGEST = {"float64": np.inf, "float32": 3.4028235677973366e38, "bfloat16": 3.39e38, "float16": 65520.0}
ABYSS = -1e8  # a stand-in for -inf: which one, nobody can know
SLACK = 4.0  # how far, in bounds, an explanation may be from what it explains: its intermediate results may be larger
FEW = 8  # what a mistake makes where all should be 0, and has no bound, is rounded a few times on the way
FORWARD, BACKWARD = "forward", "backward"


@dataclass
class Observation:
    """`got` is empty where everything passed; `failing` and `checked` name results, such as "o" and "dq"."""

    case: str
    dtype: str
    truth: Truth
    inputs: Inputs
    got: dict = field(default_factory=dict)
    failing: frozenset = frozenset()
    checked: frozenset = frozenset()
    score: float = 0.0

    @property
    def cost(self):
        q, v = self.inputs.arrays["q"].shape, self.inputs.arrays["v"].shape
        return int(np.prod(q[:-1])) * v[-2]

    @cached_property
    def want(self):
        gradients = {f"d{name}": x for name, x in self.truth.backward().items()} if self.of(BACKWARD) else {}
        return self.truth.forward() | gradients

    @cached_property
    def bounds(self):
        return self.bounds_in(None)

    def bounds_in(self, model):
        found = self.truth.bounds(bool(self.of(BACKWARD)), model=model)
        return {name if name in RESULTS else f"d{name}": x for name, x in found.items()}

    def of(self, side, names=None):
        """The results of one direction, in a fixed order."""
        names = self.checked if names is None else names
        return sorted(name for name in names if (name in RESULTS) == (side == FORWARD))

    def made(self, mistake, side):
        """What a kernel with this mistake returns; None where it cannot run at all."""
        arithmetic = ARITHMETIC[self.dtype if mistake.narrow else "float64"]
        try:
            kernel = mistake(self.truth.rule, self.truth.arrays, self.truth.options, arithmetic)
            return kernel.forward() if side == FORWARD else self.pulled(kernel)
        except (ValueError, IndexError, ArithmeticError):
            return None

    def pulled(self, kernel):
        """The gradients from the candidate's own o and lse; from the right ones where it passed."""
        o, lse = (self.got.get(name) if self.got else self.want.get(name) for name in ("o", "lse"))
        return kernel.backward(self.truth.cotangents["o"], self.truth.cotangents.get("lse"), o, lse)

    def fits(self, mistake, side):
        """(how far what failed is from what the mistake makes, root mean square in bounds; relative), or None.

        A mistake fits if it makes what came, to rounding, and leaves alone what passed.
        """
        made = self.made(mistake, side)
        if made is None:
            return None
        worst = np.zeros(2)
        for name in self.of(side):
            here = made.get(name)
            if here is None and name in self.failing:
                return None
            if here is None:
                continue
            found = self.explained(name, here) if name in self.failing else self.untouched(name, here)
            if found is None:
                return None
            worst = np.maximum(worst, found)
        return tuple(worst)

    def untouched(self, name, made):
        """Whether a result that passed is what it should be with the mistake as well."""
        want, bound = self.want[name], np.broadcast_to(self.bounds[name], self.want[name].shape)
        if made.shape != want.shape:
            return None
        far, _ = self.distance(want, made, bound)
        return (0.0, 0.0) if far <= SLACK else None

    def explained(self, name, made):
        """As `fits`, of one result; where it is out of bounds, or would be, the mistake must be closer."""
        got, want, bound = self.got[name].astype(np.float64), self.want[name], self.bounds[name]
        if got.shape != made.shape:
            return None
        raw = got
        if self.poisoned:
            got, made = self.without_poison(got, made, want)
        changed = ~(np.abs(made - want) <= 2 * bound) & (made != want)
        allowance = self.allowance(made, want, bound, changed)
        far, size = self.distance(got, made, allowance)
        decisive = changed | (~(np.abs(raw - want) <= bound) & (raw != want))
        _, here = self.distance(got[decisive], made[decisive], allowance[decisive])
        _, before = scores(raw[decisive], want[decisive], allowance[decisive])
        if not far <= SLACK or not here <= before / 2:
            return None
        finite = np.isfinite(got) & np.isfinite(made) & (made > ABYSS)
        largest = np.max(np.abs(made), initial=0, where=finite)
        error = np.max(np.abs(np.where(finite, got - made, 0)), initial=0)
        return size, error / largest if largest else 0.0

    @cached_property
    def poisoned(self):
        return not all(np.isfinite(x).all() for x in self.truth.arrays.values())

    def without_poison(self, got, made, want):
        """Both without what poison has reached, if it reached both: how far it spreads is a kernel's own."""
        reached = [~np.isfinite(x) & (x != want) for x in (got, made)]
        if not all(x.any() for x in reached):
            return got, made
        either = reached[0] | reached[1]
        return np.where(either, want, got), np.where(either, want, made)

    def allowance(self, made, want, bound, changed):
        """The bound for what a mistake makes: it grows with the numbers; the largest where the mistake changes them."""
        sizes = [np.max(np.abs(x), initial=0, where=np.isfinite(x) & (x > ABYSS)) for x in (made, want)]
        grown = max(1.0, sizes[0] / sizes[1]) if sizes[1] else 1.0
        largest = grown * np.max(bound, initial=0, where=np.isfinite(bound)) + FEW * UNIT[self.dtype] * sizes[0]
        return np.where(np.isfinite(bound), np.where(changed, largest, grown * bound), np.inf)

    def distance(self, got, made, bound):
        """(largest, root mean square) of the difference in bounds; inf where one of the two is not finite.

        Stand-ins for -inf are one and the same.
        """
        got, made = (np.where(x < ABYSS, ABYSS, settled(x, LARGEST[self.dtype])) for x in (got, made))
        return scores(got, made, bound)


def scores(got, made, bound):
    same = (got == made) | (np.isnan(got) & np.isnan(made)) | np.isposinf(bound)
    if not (same | (np.isfinite(got) & np.isfinite(made))).all():
        return np.inf, np.inf
    error = np.abs(np.where(same, 0, got) - np.where(same, 0, made))
    score = np.where(error == 0, 0, error / np.where(bound > 0, bound, np.finfo(float).tiny))
    return score.max(initial=0), float(np.sqrt(np.square(np.minimum(score, 1e150)).sum() / max(score.size, 1)))


def settled(x, largest):
    """Numbers beyond the format's range as inf."""
    return np.where(np.abs(x) >= largest, np.copysign(np.inf, x), x)


def cast(x, fmt):
    """A result in the dtype that it should have had."""
    wide = np.dtype(fmt.wide)
    x = x.real if x.dtype.kind == "c" else x
    return x if x.dtype in (fmt.dtype, wide) and x.dtype != object else x.astype(fmt.dtype)


def matches(name, got, evidence, runner):
    """Whether a result that failed has the right values: then it is only its dtype that is wrong."""
    wanted = runner.wanted(evidence["want"][name], evidence["bounds"][name])
    return compare(name, got.astype(runner.fmt.dtype), wanted)[0].verdict == "pass"


def observed(runs, jobs):
    """The observations of a check, from its runs and their jobs; what could not be run is left out."""
    found = []
    for run, job in zip(runs, jobs, strict=True):
        verdicts = {c.result: c.verdict for c in run.results}
        failing = {name for name, verdict in verdicts.items() if verdict == "fail"}
        passing = {name for name, verdict in verdicts.items() if verdict in ("pass", "suspicious")}
        got = run.evidence["got"] if run.evidence and failing else {}
        failing = {name for name in failing if name in got and got[name].shape == run.evidence["want"][name].shape}
        if job.sample is None and (failing or passing):
            runner = Runner(job)
            got = {name: cast(x, runner.fmt) if name in failing else x for name, x in got.items()}
            right = {name for name in failing if matches(name, got[name], run.evidence, runner)}
            failing, passing = failing - right, passing | right
            got = got if failing else {}
            with_dlse = run.evidence["dlse"] if run.evidence else runner.with_dlse()
            truth = Truth(runner.rule, runner.inputs, job.model, with_dlse)
            checked = frozenset(failing | passing)
            found.append(Observation(run.case, run.dtype, truth, runner.inputs, got, frozenset(failing), checked))
    return found
