"""`ar.power`: what a check can see. Faults are planted in correct kernels, one at a time, and looked for.

A tolerance that nobody has tried to fool is not a tolerance.
"""

import copy
import json
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from textwrap import wrap

import numpy as np

from attention_ref.errors import OptionError
from attention_ref.op.progress import watched
from attention_ref.op.suggest import did_you_mean
from attention_ref.oracle.bounds import number_formats, precision
from attention_ref.oracle.cases.case import Case, Inputs, build
from attention_ref.oracle.cases.select import select
from attention_ref.oracle.check import seeded
from attention_ref.oracle.diagnose.diagnose import findings, text, told
from attention_ref.oracle.diagnose.faults import ARITHMETIC, MISTAKES, Kernel, Online, Split, Straight, roundings
from attention_ref.oracle.diagnose.observation import BACKWARD, FORWARD, RESULTS, Observation
from attention_ref.oracle.run.compare import Wanted, compare
from attention_ref.oracle.run.truth import Truth
from attention_ref.pipeline.rule import Rule, find

VERSION = 1
MANY = 20  # faults, from which a bar is shown
WIDTH = 100
NOTHING = 1e-6  # of a bound: what float64 itself rounds
HOSTS = (Straight, Online, Split)
BOTH, ALONE = "both", "backward"


@dataclass(frozen=True)
class Fault:
    """One planted fault: a mistake, in which kernel, in which pass."""

    mistake: type[Kernel]
    host: type[Kernel]
    where: str

    @property
    def name(self):
        return self.mistake.name() + " (backward only)" * (self.where == ALONE and not self.mistake.backward_only)

    def __reduce__(self):
        """By names: a mistake that differs from another only in its tile is in no module under its name."""
        return restored, (self.mistake.name(), self.host.__name__, self.where)

    def kernels(self):
        """(the kernel that goes forward, the one that goes back)."""
        broken = type("Planted", (self.mistake, self.host), {})
        return (self.host if self.where == ALONE else broken), broken


def restored(mistake, host, where):
    return Fault((MISTAKES | ARITHMETIC)[mistake], {kind.__name__: kind for kind in HOSTS}[host], where)


@dataclass(frozen=True)
class Outcome:
    """What became of a fault. `score` is the largest error in bounds: what a check sees, or would without rounding."""

    fault: str
    clause: str
    kernel: str
    caught: bool
    diagnosed: bool
    cases: int
    score: float
    said: str
    reason: str = ""


@dataclass(frozen=True)
class Power:
    """What `ar.power` returns; `str` of it is a table."""

    meta: dict
    outcomes: tuple

    @property
    def caught(self) -> list:
        """The faults that these cases catch."""
        return [o for o in self.outcomes if o.caught]

    @property
    def unseen(self) -> list:
        """The faults that these cases cannot see, with the reason in `reason`."""
        return [o for o in self.outcomes if not o.caught]

    @property
    def misnamed(self) -> list:
        """The faults that are caught and not called by their name."""
        return [o for o in self.caught if not o.diagnosed]

    def to_dict(self) -> dict:
        summary = {"faults": len(self.outcomes), "caught": len(self.caught)}
        summary["diagnosed"] = len(self.caught) - len(self.misnamed)
        return {"schema": "attention_ref/power", "version": VERSION, **self.meta, **summary} | {
            "outcomes": [asdict(outcome) for outcome in self.outcomes]
        }

    def to_json(self, indent: int = 2) -> str:
        return json.dumps(finite(self.to_dict()), indent=indent)

    def __str__(self) -> str:
        meta, caught = self.meta, len(self.caught)
        named = caught - len(self.misnamed)
        title = (
            f"{counted(len(self.outcomes), 'fault')} planted in {meta['rule']}, {meta['dtype']} under {meta['model']}, "
        )
        lines = [
            *wrap(f"{title}{counted(meta['count'], 'case')} ({', '.join(meta['cases'].split(','))})", WIDTH),
            f"{caught} caught, {named} of them called by their name",
            "",
            f"{'fault':<44}{'kernel':<10}{'caught in':<12}{'error/bound':<14}diagnosis",
        ]
        lines += [row(outcome) for outcome in self.outcomes]
        for title, some in (("Cannot be seen:", self.unseen), ("Called by another name:", self.misnamed)):
            if some:
                lines += ["", title, *(line for o in some for line in wrapped(f"{o.fault}: {o.reason or o.said}"))]
        return "\n".join(lines)


def row(outcome):
    seen = counted(outcome.cases, "case") if outcome.caught else "no case"
    score = f"{outcome.score:.3g}" if outcome.score > NOTHING else "0"
    verdict = "named" if outcome.diagnosed else ("other name" if outcome.caught else "")
    return f"{outcome.fault:<44.43}{outcome.kernel:<10}{seen:<12}{score:<14}{verdict}".rstrip()


def counted(n, noun):
    return f"{n} {noun}{'s' * (n != 1)}"


def wrapped(text):
    return wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def finite(x):
    """The same with strings for the numbers that JSON does not know."""
    if isinstance(x, dict):
        return {name: finite(part) for name, part in x.items()}
    if isinstance(x, (list, tuple)):
        return [finite(part) for part in x]
    return str(x) if isinstance(x, float) and not np.isfinite(x) else x


def power(
    rule: str | Rule = "scaled_dot",
    cases: str | Sequence[str | Case] = "core",
    dtype: str = "float32",
    *,
    faults: str | Sequence[str] | None = None,
    seed: int = 0,
    model: str | None = None,
    diagnose: bool = True,
    executor: Executor | None = None,
) -> Power:
    """A Power: which of the catalog's faults a check of these cases catches in this dtype, and which it names.

    The kernels are NumPy's, with their roundings to the dtype emulated; bfloat16 needs no further package.

    >>> import attention_ref as ar
    >>> power = ar.power(cases="shape-17x17", faults=["scale-missing", "causal-ignored"])
    >>> [found.fault for found in power.caught], [found.fault for found in power.unseen]
    (['scale-missing'], ['causal-ignored'])

    Args:
        rule, cases, seed: as for `ar.check`
        dtype: the dtype of the inputs
        faults: a list of their names; None: all that concern the dtype
        model: the arithmetic, where it is not the usual one
        diagnose: whether to ask for the name of what is wrong, which takes longer
        executor: a `concurrent.futures` executor that the faults are spread over
    """
    rule, fmt = find(rule), number_formats.find(dtype)
    seed = seeded(seed)
    model = precision.find(model or fmt.model).name
    chosen = tuple(case for case in select(cases) if not case.unfit(rule))
    chosen_faults = planted(faults, fmt.name)
    if faults is None and rule.module.own_scale:
        chosen_faults = [fault for fault in chosen_faults if not fault.mistake.only_unscaled]
    trial = partial(tried, Trial(chosen, rule.name, fmt.name, model, seed), diagnose=diagnose)
    try:
        tries = (executor.map if executor else map)(trial, chosen_faults)
        outcomes = tuple(watched(tries, len(chosen_faults), lambda found: found.fault, MANY))
    finally:
        observations.cache_clear()
    meta = {"rule": rule.name, "dtype": fmt.name, "model": model, "seed": seed}
    meta |= {"cases": cases if isinstance(cases, str) else "given one by one", "count": len(chosen)}
    return Power(meta, outcomes)


@dataclass(frozen=True)
class Trial:
    """What every fault is tried on; it can be sent to another process."""

    cases: tuple
    rule: str
    dtype: str
    model: str
    seed: int


def tried(trial, fault, diagnose):
    with np.errstate(all="ignore"):
        return outcome(fault, observations(trial), diagnose)


@lru_cache(maxsize=1)
def observations(trial):
    """The inputs and the right answers of all cases, computed once in each process."""
    rule = find(trial.rule)
    return [observation(case, rule, trial.dtype, trial.model, trial.seed) for case in trial.cases]


def planted(names, dtype):
    """The faults of these names, in one of three kernels in turn."""
    known = {fault.name: fault for fault in every_fault(dtype)}
    if names is None:
        return list(known.values())
    for name in names:
        if name not in known:
            raise OptionError(f"power: there is no fault {name!r} in {dtype}{did_you_mean(name, known)}")
    return [known[name] for name in names]


def every_fault(dtype):
    mistakes = [*MISTAKES.values(), *(x for x in ARITHMETIC.values() if coarser(x, dtype))]
    for count, mistake in enumerate(mistakes):
        hosts = hosts_of(mistake)
        host = hosts[count % len(hosts)]
        yield Fault(mistake, host, ALONE if mistake.backward_only else BOTH)
        if mistake.also_alone:
            yield Fault(mistake, host, ALONE)


def hosts_of(mistake):
    """The kernels a mistake can sit in: one that has its own tiles or splits brings them along.

    What is divided twice, or started twice, is another mistake with split keys.
    """
    if mistake.tile or mistake.splits > 1:
        return (Straight,)
    several = any(name in vars(base) for base in mistake.__mro__[:-3] for name in ("divided", "start", "logarithm"))
    return (Straight, Online) if several or np.isfinite(mistake.fill) else HOSTS


def coarser(mistake, dtype):
    return dtype in mistake.dtypes


def observation(case, rule, dtype, model, seed):
    """A case before anything is planted, its inputs rounded to the dtype."""
    low = roundings.ARITHMETIC[dtype]
    given = build(case, rule, number_formats.find("float64"), seed)
    arrays, options = ({n: narrowed(x, low) for n, x in part.items()} for part in (given.arrays, given.options))
    inputs = Inputs(arrays, options, narrowed(given.do, low), given.dlse.astype(low.work))
    truth = Truth(rule, inputs, model, with_dlse=True)
    gradients = [f"d{name}" for name in truth.bounds(True) if name not in RESULTS] if case.backward else []
    lse = [] if truth.attended.lse is None else ["lse"]
    return Observation(case.name, dtype, truth, inputs, checked=frozenset(["o", *lse, *gradients]))


def narrowed(x, arithmetic):
    if isinstance(x, tuple):
        return tuple(narrowed(part, arithmetic) for part in x)
    floating = isinstance(x, np.ndarray) and x.dtype.kind == "f"
    return arithmetic.out(x.astype(arithmetic.work)) if floating else x


def outcome(fault, observations, diagnose=True):
    """One fault through all cases."""
    runs = [one for seen in observations if (one := run(fault, seen)) is not None]
    failing = [one for one in runs if one.failing]
    parts = fault.name, fault.mistake.clause(), fault.host.__name__.lower()
    if not failing:
        change = max((changed(fault, seen) for seen in observations), default=0.0)
        reason = f"below rounding: {fault.mistake.clause()} changes no result by more than {change:.2g} of its bound"
        reason = reason if change > NOTHING else "no case here depends on it"
        return Outcome(*parts, False, False, 0, change, "", reason)
    found = findings(runs) if diagnose else {}
    score = max(one.score for one in failing)
    return Outcome(*parts, True, named(fault, found), len(failing), score, text(told(found)))


def run(fault, seen):
    """The observation with what the broken kernel returns; None where it cannot take the case."""
    one = copy.copy(seen)
    try:
        one.got = results(fault, seen, roundings.ARITHMETIC[seen.dtype])
    except (ValueError, IndexError):
        return None
    one.checked = frozenset(name for name in seen.checked if name in one.got)
    scores = {name: failure(seen, name, one.got[name]) for name in one.checked}
    one.failing = frozenset(name for name, score in scores.items() if score)
    one.score = max(scores.values(), default=0.0)
    one.got = one.got if one.failing else {}
    return one


def results(fault, seen, arithmetic):
    """All results of a kernel with the fault, forward and then backward from its own o and lse."""
    forward, backward = fault.kernels()
    truth, inputs = seen.truth, seen.inputs
    got = forward(truth.rule, inputs.arrays, inputs.options, arithmetic).forward()
    if seen.of(BACKWARD):
        kernel = backward(truth.rule, inputs.arrays, inputs.options, arithmetic)
        got |= kernel.backward(inputs.do, truth.cotangents.get("lse"), got["o"], got.get("lse"))
    return {name: x.astype(arithmetic.work) for name, x in got.items()}


def failure(seen, name, got):
    """The score of a result that fails, 0 for one that passes."""
    fmt = number_formats.find(got.dtype)
    found, _ = compare(name, got, Wanted(seen.want[name], seen.bounds[name], fmt, (got.dtype,)))
    if found.verdict != "fail":
        return 0.0
    return found.worst.score if found.worst else np.inf


def changed(fault, seen):
    """The most that a fault changes in float64, in bounds."""
    try:
        got = results(fault, seen, roundings.ARITHMETIC["float64"])
    except (ValueError, IndexError):
        return 0.0
    return max(seen.distance(seen.want[name], got[name], seen.bounds[name])[0] for name in seen.checked if name in got)


def named(fault, found):
    """Whether every direction that fails is put down to the fault: by its name, or to the forward pass's results.

    Of arithmetic that is too coarse, it is enough to say that it is; where it is, only the size of the errors tells.
    """
    name = fault.mistake.name()
    right = {*ARITHMETIC, "arithmetic"} if name in ARITHMETIC else {name}
    for side, explained in found.items():
        if any(right & set(finding.names) for finding in explained):
            continue
        follows = side == BACKWARD and FORWARD in found and explained and explained[0].names == ()
        if not follows:
            return False
    return bool(found)
