"""`attention-ref check TARGET`: is a function right, and if not, what is wrong?"""

import sys
from argparse import RawDescriptionHelpFormatter
from contextlib import contextmanager
from pathlib import Path

from attention_ref.backend.command import Command
from attention_ref.conformance import libraries
from attention_ref.errors import OptionError
from attention_ref.op.suggest import suggestion
from attention_ref.oracle.check import check
from attention_ref.oracle.run.load import load
from attention_ref.oracle.run.processes import Processes, aside

PASSED, FAILED, NOTHING_CHECKED = 0, 1, 3
EPILOG = """\
TARGET is package.module:function, file.py:function, or the name of a preset, a library's own function:
torch.sdpa, jax.dot_product_attention, … (attention-ref check --list). With --preset, a function of yours is
called as that library's function is.

exit status: 0 passed, 1 failed, 2 wrong usage, 3 nothing could be checked"""


def add_arguments(parser):
    parser.epilog = EPILOG
    parser.formatter_class = RawDescriptionHelpFormatter
    add = parser.add_argument
    add("target", metavar="TARGET", nargs="?", help="the function to check")
    add("--list", action="store_true", help="list the presets, and which can run here")
    add("--command", metavar="COMMAND", help="a program to check instead; see docs/subprocess-protocol.md")
    add("--backward", metavar="TARGET", help="the function's backward (default: the framework's own)")
    add("--forward-only", action="store_true", help="do not check the backward")
    add("--rule", help="the attention rule (default: scaled_dot, or the preset's own)")
    add("--preset", metavar="NAME", help="call TARGET as this library's function is called")
    add("--backend", metavar="NAME", help="the framework of TARGET, where it is not recognized")
    add("--device", metavar="NAME", help="where the framework computes: cpu, cuda, …")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--case", metavar="NAME", help="one case by its name")
    which.add_argument("--cases", help="core, full, long, flag:GQA, or several with commas (default: core)")
    add("--dtype", "--dtypes", dest="dtypes", default="float32", help="dtypes with commas")
    add("--models", metavar="DTYPE=MODEL", help="the arithmetic of a dtype: float32=tf32")
    add("--sample", type=int, metavar="N", help="run long inputs once, compare at N rows and N keys")
    add("--length", type=int, metavar="L", help="how many keys the cases have (with --sample: 131072)")
    add("--seed", type=int, default=0)
    add("--jobs", type=int, default=1, metavar="N", help="share the cases among processes; a crash is a verdict")
    add("--timeout", type=float, metavar="SECONDS", help="how long one call may take")
    add("--json", metavar="FILE", help="write the report as JSON")
    add("--junit", metavar="FILE", help="write the report as JUnit XML")
    add("--figure", metavar="FILE", help="draw where the worst case is wrong")


def run(args):
    if args.list:
        return list_presets()
    with aside():
        report = checked(args)
    print(report)
    if args.json:
        Path(args.json).write_text(report.to_json(), encoding="utf-8")
    if args.junit:
        Path(args.junit).write_text(report.to_junit(), encoding="utf-8")
    if args.figure:
        save_figure(report, args.figure)
    if all(case.verdict == "unsupported" for case in report.runs):
        return NOTHING_CHECKED
    return PASSED if report.passed else FAILED


def list_presets():
    for preset in libraries.presets().values():
        reason = libraries.available(preset)
        print(f"{preset.name:34} {reason or 'can be run'}")
    return PASSED


def save_figure(report, path):
    """Draw the worst case, or say on standard error why there is nothing to draw."""
    from attention_ref import plot  # loads matplotlib, which a check without a figure does without

    try:
        figure, _ = report.figure()
    except OptionError as error:
        print(f"attention-ref: {path} is not written: {error}", file=sys.stderr)
        return
    plot.save(figure, path, dpi=150)


def checked(args):
    """The Report."""
    subject = subject_of(args)
    with processes(args, subject) as executor:
        report = check(
            rule=args.rule or default_rule(subject.get("preset")),
            cases=args.case or args.cases,
            dtypes=args.dtypes.split(","),
            sample=args.sample,
            length=args.length,
            seed=args.seed,
            timeout=args.timeout,
            device=args.device,
            executor=executor,
            models=models_by_dtype(args.models),
            **subject,
        )
    # A function from a file knows only its module's name; the command that runs a case again needs the file's.
    if args.target and ":" in args.target:
        report.meta["candidate"] = args.target
    if args.backward:
        report.meta["backward"] = args.backward
    return report


def subject_of(args):
    """The arguments of `check` that say what is checked."""
    if (args.target is None) == (args.command is None):
        raise OptionError("give a TARGET or --command, one of them; see attention-ref check --help")
    backward = load(args.backward) if args.backward else None
    if args.forward_only:
        backward = False
    if args.command is not None:
        command = Command(args.command, args.timeout)
        return {"candidate": command, "backward": command.backward if backward is None else backward}
    subject = {"preset": args.preset, "backend": args.backend, "backward": backward}
    if ":" in args.target:
        return subject | {"candidate": load(args.target)}
    require_preset(args.target)
    return subject | {"preset": args.target}


def require_preset(target):
    """Refuse what is neither a function nor a preset, in a sentence that says what a target is."""
    presets = libraries.presets()
    if target in presets:
        return
    sentence = f"a target is package.module:function or file.py:function; got {target!r}"
    if target.endswith(".py"):
        raise OptionError(f"{sentence}: name the function too, as {target}:attention")
    match = suggestion(target, presets)
    advice = f"did you mean {match!r}?" if match else "attention-ref check --list names them"
    raise OptionError(f"{sentence}, which is no preset either; {advice}")


def default_rule(preset):
    """The first rule of a preset; scaled_dot without one."""
    return "scaled_dot" if preset is None else next(iter(libraries.find(preset).rules))


def models_by_dtype(text):
    """{"float32": "tf32"} of float32=tf32, several with commas; None of nothing."""
    if not text:
        return None
    models = {}
    for pair in text.split(","):
        dtype, _, model = pair.partition("=")
        if not dtype or not model:
            raise OptionError(f"--models takes DTYPE=MODEL, such as float32=tf32; got {text!r}")
        models[dtype] = model
    return models


@contextmanager
def processes(args, subject):
    """Processes that load the same functions, for more than one job; None, which is this process, for one."""
    if args.jobs < 1:
        raise OptionError(f"--jobs is a number of processes, 1 or more; got {args.jobs}")
    if args.jobs == 1:
        yield None
        return
    functions = {}
    for target, argument in ((args.target, "candidate"), (args.backward, "backward")):
        if target and subject.get(argument):
            functions[target] = subject[argument]
    pool = Processes(args.jobs, functions)
    try:
        yield pool
    finally:
        pool.shutdown()
