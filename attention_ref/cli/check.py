"""`attention-ref check`, `cases` and `explain`: what they take, and what they print."""

import sys
from textwrap import fill

from attention_ref.errors import OptionError

PASSED, FAILED, NOTHING = 0, 1, 3
WIDTH = 100
EPILOG = """\
TARGET is package.module:function, file.py:function, or the name of a preset, a library's own function:
torch.sdpa, jax.dot_product_attention, … (attention-ref check --list). With --preset, a function of yours is
called as that library's function is.

exit status: 0 passed, 1 failed, 2 wrong usage, 3 nothing could be checked"""


def add_check(add):
    add.epilog = EPILOG
    add.add_argument("target", metavar="TARGET", nargs="?", help="the function to check")
    add.add_argument("--list", action="store_true", help="list the presets, and which can run here")
    add.add_argument("--command", metavar="COMMAND", help="a program to check instead; see docs/subprocess-protocol.md")
    add.add_argument("--backward", metavar="TARGET", help="the function's backward (default: the framework's own)")
    add.add_argument("--forward-only", action="store_true", help="do not check the backward")
    add.add_argument("--rule", help="the attention rule (default: scaled_dot, or the preset's own)")
    add.add_argument("--preset", metavar="NAME", help="call TARGET as this library's function is called")
    add.add_argument("--backend", metavar="NAME", help="the framework of TARGET, where it is not recognized")
    add.add_argument("--device", metavar="NAME", help="where the framework computes: cpu, cuda, …")
    which = add.add_mutually_exclusive_group()
    which.add_argument("--case", metavar="NAME", help="one case by its name")
    which.add_argument("--cases", help="core, full, long, flag:GQA, or several with commas (default: core)")
    add.add_argument("--dtype", "--dtypes", dest="dtypes", default="float32", help="dtypes with commas")
    add.add_argument("--models", metavar="DTYPE=MODEL", help="the arithmetic of a dtype: float32=tf32")
    add.add_argument("--sample", type=int, metavar="N", help="run long inputs once, compare at N rows and N keys")
    add.add_argument("--length", type=int, metavar="L", help="how many keys the cases have (with --sample: 131072)")
    add.add_argument("--seed", type=int, default=0)
    add.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="share the cases among processes; a crash is a verdict"
    )
    add.add_argument("--timeout", type=float, metavar="SECONDS", help="how long one call may take")
    add.add_argument("--json", metavar="FILE", help="write the report as JSON")
    add.add_argument("--junit", metavar="FILE", help="write the report as JUnit XML")
    add.add_argument("--figure", metavar="FILE", help="draw where the worst case is wrong")
    add.set_defaults(run=run_check)


def run_check(options):
    from attention_ref.oracle.run.processes import aside

    if options.list:
        return list_presets()
    with aside():
        report = checked(options)
    print(report)
    for path, write in ((options.json, report.to_json), (options.junit, report.to_junit)):
        if path:
            with open(path, "w", encoding="utf-8") as file:
                file.write(write())
    if options.figure:
        draw(report, options.figure)
    if all(run.verdict == "unsupported" for run in report.runs):
        return NOTHING
    return PASSED if report.passed else FAILED


def draw(report, path):
    """The figure of the worst case, or a sentence on standard error where there is nothing to draw."""
    from attention_ref import plot

    try:
        figure = report.figure()[0]
    except OptionError as error:
        print(f"attention-ref: {path} is not written: {error}", file=sys.stderr)
        return
    plot.save(figure, path, dpi=150)


def checked(options):
    """The report."""
    from attention_ref.oracle.check import check

    arguments = what(options)
    with workers(options, arguments) as executor:
        report = check(
            rule=options.rule or rule_of(arguments.get("preset")),
            cases=options.case or options.cases,
            dtypes=options.dtypes.split(","),
            sample=options.sample,
            length=options.length,
            seed=options.seed,
            timeout=options.timeout,
            device=options.device,
            executor=executor,
            models=models(options.models) if options.models else None,
            **arguments,
        )
    if options.target and ":" in options.target:
        report.meta |= {"candidate": options.target}
    if options.backward:
        report.meta |= {"backward": options.backward}
    return report


def models(text):
    """{"float32": "tf32"} of float32=tf32, several with commas."""
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(dtype and model for dtype, _, model in pairs):
        raise OptionError(f"--models takes DTYPE=MODEL, such as float32=tf32; got {text!r}")
    return {dtype: model for dtype, _, model in pairs}


def what(options):
    """The arguments of `check` that say what is checked."""
    from attention_ref.oracle.run.load import load

    backward = options.backward and load(options.backward)
    if options.forward_only:
        backward = False
    if (options.target is None) == (options.command is None):
        raise OptionError("give a TARGET or --command, one of them; see attention-ref check --help")
    if options.command is not None:
        from attention_ref.backend.command import Command

        command = Command(options.command, options.timeout)
        return {"candidate": command, "backward": command.backward if backward is None else backward}
    found = {"preset": options.preset, "backend": options.backend, "backward": backward}
    if ":" not in options.target:
        return found | {"preset": named(options.target)}
    return found | {"candidate": load(options.target)}


def named(target):
    """The name of a preset, or one sentence on what a target is."""
    from attention_ref.conformance.libraries import presets
    from attention_ref.op.op import did_you_mean

    known = presets()
    if target not in known:
        said = f"a target is package.module:function or file.py:function; got {target!r}"
        if target.endswith(".py"):
            raise OptionError(f"{said}: name the function too, as {target}:attention")
        meant = did_you_mean(target, known)
        meant = meant if "did you mean" in meant else "; attention-ref check --list names them"
        raise OptionError(f"{said}, which is no preset either{meant}")
    return target


def rule_of(preset):
    """The first rule of a preset; scaled_dot without one."""
    from attention_ref.conformance.libraries import find

    return "scaled_dot" if preset is None else next(iter(find(preset).rules))


def list_presets():
    from attention_ref.conformance.libraries import available, presets

    for preset in presets().values():
        reason = available(preset)
        print(f"{preset.name:34} {reason or 'can be run'}")
    return PASSED


class workers:
    """Processes that load the same functions, for more than one job."""

    def __init__(self, options, arguments):
        self.jobs, self.pool = options.jobs, None
        named = ((options.target, "candidate"), (options.backward, "backward"))
        self.functions = {target: arguments[name] for target, name in named if target and arguments.get(name)}

    def __enter__(self):
        if self.jobs < 1:
            raise OptionError(f"--jobs is a number of processes, 1 or more; got {self.jobs}")
        if self.jobs > 1:
            from attention_ref.oracle.run.processes import Processes

            self.pool = Processes(self.jobs, self.functions)
        return self.pool

    def __exit__(self, *error):
        if self.pool:
            self.pool.shutdown()


def add_cases(add):
    add.add_argument("cases", nargs="?", default="core", metavar="CASES", help="core, full, long, flag:GQA, a name")
    add.set_defaults(run=print_cases)


def print_cases(options):
    from attention_ref.oracle.cases.select import select

    found = select(options.cases)
    for case in found:
        flags = f"  [{', '.join(case.flags)}]" if case.flags else ""
        print(f"{case.name}{flags}")
        print(fill(case.why, WIDTH, initial_indent="    ", subsequent_indent="    "))
    print(f"{len(found)} case{'s' * (len(found) != 1)}")
    return PASSED


def add_explain(add):
    add.add_argument("case", metavar="CASE", help="the name of a case")
    add.add_argument("--rule", default="scaled_dot", help="the attention rule (default: scaled_dot)")
    add.add_argument("--dtype", default="float32", help="the dtype of the inputs (default: float32)")
    add.add_argument("--seed", type=int, default=0)
    add.set_defaults(run=print_case)


def print_case(options):
    from attention_ref.oracle.cases.explain import explain

    print(explain(options.case, options.rule, options.dtype, options.seed))
    return PASSED
