"""`ar.check`: is a candidate right, how right, and if not, where not."""

import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor
from inspect import signature
from numbers import Integral
from time import perf_counter
from typing import Any, Literal

from attention_ref.backend import kind
from attention_ref.backend.declare import declared, takes_dlse
from attention_ref.conformance import libraries
from attention_ref.errors import OptionError
from attention_ref.op.progress import watched
from attention_ref.op.protocol import OpModule
from attention_ref.oracle.bounds import number_formats, precision
from attention_ref.oracle.cases import Case, long
from attention_ref.oracle.cases.select import select, words
from attention_ref.oracle.diagnose.diagnose import diagnose
from attention_ref.oracle.diagnose.known import explained, vanished
from attention_ref.oracle.report.report import Report
from attention_ref.oracle.run.adapt import adapt
from attention_ref.oracle.run.job import CaseRun, Job, run_of
from attention_ref.oracle.run.load import name_of
from attention_ref.oracle.run.runner import run
from attention_ref.oracle.run.trouble import Trouble, TroubleKind
from attention_ref.pipeline.attention import attention
from attention_ref.pipeline.rule import Rule, find

MODELS = ("onnx", "onnxruntime")  # backends whose candidates are models
LONG = 100


def check(
    candidate: Callable | Any = None,
    rule: str | Rule | OpModule = "scaled_dot",
    preset: str | None = None,
    backend: str | None = None,
    backward: Callable | Literal[False] | None = None,
    cases: str | Sequence[str | Case] | None = None,
    dtypes: str | Sequence[str] = ("float32",),
    *,
    sample: int | None = None,
    length: int | None = None,
    seed: int = 0,
    executor: Executor | None = None,
    timeout: float | None = None,
    deterministic: bool = True,
    models: Mapping[str, str] | None = None,
    device: str | None = None,
) -> Report:
    """A Report: is a candidate right, how right, and if not, what is wrong.

    >>> import numpy as np
    >>> import attention_ref as ar
    >>> def attend(q, k, v):
    ...     s = q @ np.swapaxes(k, -1, -2)
    ...     p = np.exp(s - s.max(axis=-1, keepdims=True))
    ...     return p @ v / p.sum(axis=-1, keepdims=True)
    >>> report = ar.check(attend, cases="shape-17x17")
    >>> report.passed
    False
    >>> report.diagnosis.sentence
    'every case agrees to ... with the scale left out'

    Args:
        candidate: `candidate(q, k, v, **options)` returns o, (o, lse) or a dict of results. It gets NumPy arrays, or
            those of the framework that it is written in, and of `ar.attention`'s options those that a case uses
        rule: the rule it is measured against
        preset: a library's function by name: the candidate is called as that one is, and without a candidate it is
            checked itself
        backend: the framework, where the candidate does not tell
        backward: `backward(do, q, k, v, o, lse, **options)` returns gradients by name, {"q": dq, …}; it gets the
            candidate's own o and lse, and dlse= if it declares it. None: the framework's own; False: none
        cases: "core" (the default), "full", "long", "flag:GQA", a case's name, or several of these with commas; or a
            list, in which may be `Case` objects
        dtypes: the dtypes of the inputs
        sample: 64, to run the candidate once on long inputs, by default causal, one head of width 64, and compare o,
            lse and dq at 64 rows, dk and dv at 64 keys
        length: how many keys the cases have; with `sample` 131,072
        seed: of the inputs
        executor: a `concurrent.futures` executor that the cases are spread over
        timeout: seconds for a call
        deterministic: whether bits that vary from run to run fail
        models: the arithmetic that a dtype is computed in where it is not the usual one: {"float32": "tf32"}
        device: where a preset's library computes
    """
    rule = find(rule)
    preset = None if preset is None else libraries.find(preset)
    require_known(candidate, backward, preset, backend, timeout)
    seed, sample, length = seeded(seed), long.counted("sample", sample), long.counted("length", length)
    if preset is not None:
        candidate = libraries.called(preset, rule.name, candidate)
        backend, device = preset.backend, device or preset.device
        models = {**preset.models, **(models or {})}
    adapter, candidate, backward = adapt(candidate, backward, backend, device, rule)
    cases = cases if cases is not None else "core" if sample is None else long.FIRST
    fitted = long.fitted(select(cases), sample, length, words(cases))
    tested = [number_formats.find(name) for name in ((dtypes,) if isinstance(dtypes, str) else dtypes)]
    names = [fmt.dtype.name for fmt in tested]
    models = {number_formats.find(name).name: precision.find(model).name for name, model in (models or {}).items()}
    jobs = []
    for fmt in tested:
        model = precision.find(models.get(fmt.name, fmt.model)).name
        jobs += [Job(case, fmt.name, model, rule, candidate, backward, seed, timeout, sample) for case in fitted]
    known = preset.known if preset else ()
    start = perf_counter()
    watch = watched(spread(jobs, rule, executor), len(jobs), lambda run: run.case, LONG)
    runs = [explained(run, job, known) for run, job in zip(watch, jobs, strict=True)]
    meta = {
        "candidate": name_of(candidate),
        "rule": rule.name,
        "cases": cases if isinstance(cases, str) else ", ".join(case.name for case in fitted),
        "dtypes": names,
        "seed": seed,
        "backward": None if backward is None else name_of(backward),
        "dlse": takes_dlse(backward) if backward else None,
        "deterministic": deterministic,
        "models": models,
        "timeout": timeout,
        "sample": sample,
        "length": length,
        "unknown": unknown(candidate, 3, rule) + (unknown(backward, 6, rule) if backward else []),
        "seconds": perf_counter() - start,
        "backend": f"{adapter.name} {adapter.version}",
        "preset": preset and preset.name,
        "vanished": vanished(runs, jobs, known),
    }
    return Report(meta, runs, diagnose(runs, jobs, deterministic))


def require_known(candidate: Any, backward: Any, preset: Any, backend: str | None, timeout: float | None) -> None:
    """Refuse what cannot be checked, in one sentence."""
    for name, function in (("candidate", candidate), ("backward", backward)):
        missing = name == "candidate" and function is None and preset is None
        model = name == "candidate" and backend in MODELS
        if missing or not (function is None or function is False or callable(function) or model):
            raise OptionError(f"check: {name} must be a function; got {type(function).__name__}")
    if backend is not None:
        kind(backend)
    if preset is not None and backend not in (None, preset.backend):
        raise OptionError(f"check: the preset {preset.name} is for backend={preset.backend!r}; got {backend!r}")
    if timeout is not None and not timeout > 0:
        raise OptionError(f"check: timeout= is a number of seconds above 0, or None; got {timeout!r}")


def seeded(seed: Any) -> int:
    if not isinstance(seed, Integral) or seed < 0:
        raise OptionError(f"seed= is an integer from 0 on; got {seed!r}")
    return int(seed)


def unknown(function: Any, positional: int, rule: Rule) -> list[str]:
    """The arguments with a default that no case will ever give, such as another library's names."""
    known = {*signature(attention).parameters, "dlse", *rule.module.parameters}
    return sorted((declared(function, positional) or set()) - known)


def spread(jobs: list[Job], rule: Rule, executor: Executor | None) -> Iterator[CaseRun]:
    """The runs in the jobs' order, each as soon as it and those before it are there."""
    if executor is None:
        for job in jobs:
            yield unfit(job, rule) or run(job)
        return
    if isinstance(executor, process_pools()):
        require_picklable(jobs)
    futures = [(job, unfit(job, rule) or submitted(executor, job)) for job in jobs]
    for job, future in futures:
        yield future if isinstance(future, CaseRun) else result_of(job, future)


def unfit(job: Job, rule: Rule) -> CaseRun | None:
    """The run of a case that the rule has no meaning for, or that is too large; None for all others."""
    reason = job.case.unfit(rule) or (job.sample is None and long.too_large(job.case))
    return without_results(job, Trouble(TroubleKind.UNFIT, {"reason": reason})) if reason else None


def without_results(job: Job, trouble: Trouble) -> CaseRun:
    return run_of(job, trouble.verdict, trouble)


def submitted(executor: Executor, job: Job) -> Any:
    try:
        return executor.submit(run, job)
    except BrokenExecutor:
        return without_results(job, Trouble(TroubleKind.NOT_RUN))


def result_of(job: Job, future: Any) -> CaseRun:
    try:
        return future.result()
    except BrokenExecutor:
        return without_results(job, Trouble(TroubleKind.DIED))


def process_pools() -> tuple[type, ...]:
    """The class of process pools, if anyone has imported it: nobody else can have made one."""
    module = sys.modules.get("concurrent.futures.process")
    return (module.ProcessPoolExecutor,) if module else ()


def require_picklable(jobs: list[Job]) -> None:
    for name in ("candidate", "backward"):
        function = getattr(jobs[0], name) if jobs else None
        try:
            pickle.dumps(function)
        except (pickle.PicklingError, AttributeError, TypeError):
            raise OptionError(
                f"check: the {name} {name_of(function)} cannot be sent to another process; define it with def at the "
                f"top of a module, or give a ThreadPoolExecutor"
            ) from None
