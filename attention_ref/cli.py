"""The command line: `attention-ref rules`, `mechanisms`, `check`, `plot`, `train`, `demo`."""

import argparse
import os
import re
import sys
import textwrap

from attention_ref import __version__, mechanisms, rules
from attention_ref.errors import OptionError, ShapeError
from attention_ref.formula import readable

WIDTH = 100


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence, raised."""

    def error(self, message):
        raise OptionError(f"{message}; see {self.prog} --help")


def main(argv=None) -> int:
    """Run one command; 0 when all is well, 1 when a check failed, 2 for a usage error."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    try:
        argv = sys.argv[1:] if argv is None else list(argv)
        options = parser(argv).parse_args(argv)
        status = options.run(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return refuse(f"cannot write {error.filename}: {error.strerror}")
    except (ShapeError, OptionError) as error:
        return refuse(error)


def refuse(sentence):
    print(f"attention-ref: {sentence}", file=sys.stderr)
    return 2


def parser(argv=()):
    top = Parser(prog="attention-ref", description="The numerical oracle for attention.")
    top.add_argument("--version", action="version", version=f"attention-ref {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    add = commands.add_parser("rules", help="print the catalog of attention rules")
    add.add_argument("--all", action="store_true", help="the mechanisms too")
    add.add_argument("--markdown", action="store_true", help="every op, as the page docs/catalog.md")
    add.set_defaults(run=print_rules)
    add = commands.add_parser("mechanisms", help="print the catalog of mechanisms")
    add.set_defaults(run=print_mechanisms)
    add_check(commands.add_parser("check", help="check an attention function against the oracle"))
    add = commands.add_parser("demo", help="check a correct and a subtly wrong attention, and draw both")
    add.add_argument("--out", default="demo", metavar="DIR", help="folder for the heatmaps (default: demo)")
    add.set_defaults(run=run_demo)
    add = commands.add_parser("plot", help="draw the weights in a file: .npy, .npz or .safetensors")
    if argv[:1] == ["plot"]:
        from attention_ref.plot import command

        command.add_arguments(add)
        add.set_defaults(run=command.run)
    add = commands.add_parser("train", help="train a translator, or a reverser, in front of you")
    if argv[:1] == ["train"]:
        from attention_ref.train import command as training

        training.add_arguments(add)
        add.set_defaults(run=training.run)
    return top


def add_check(add):
    add.add_argument("target", metavar="TARGET", help="package.module:function or file.py:function")
    add.add_argument("--backward", metavar="TARGET", help="the function's backward")
    add.add_argument("--rule", default="scaled_dot", help="the attention rule (default: scaled_dot)")
    which = add.add_mutually_exclusive_group()
    which.add_argument("--case", metavar="NAME", help="one case by its name")
    which.add_argument("--cases", default="core", help="core, full, flag:GQA, or several with commas (default: core)")
    add.add_argument("--dtypes", default="float32", help="dtypes with commas (default: float32)")
    add.add_argument("--seed", type=int, default=0)
    add.add_argument("--timeout", type=float, metavar="SECONDS", help="how long one call may take")
    add.add_argument("--json", metavar="FILE", help="write the report as JSON")
    add.add_argument("--junit", metavar="FILE", help="write the report as JUnit XML")
    add.set_defaults(run=run_check)


def run_check(options):
    from attention_ref.oracle.check import check
    from attention_ref.oracle.target import load

    report = check(
        load(options.target),
        options.rule,
        backward=options.backward and load(options.backward),
        cases=options.case or options.cases,
        dtypes=options.dtypes.split(","),
        seed=options.seed,
        timeout=options.timeout,
    )
    print(report)
    for path, write in ((options.json, report.to_json), (options.junit, report.to_junit)):
        if path:
            with open(path, "w", encoding="utf-8") as file:
                file.write(write())
    return 0 if report.passed else 1


def print_rules(options):
    if options.markdown:
        from attention_ref import catalog

        print(catalog.markdown(), end="")
        return 0
    print("Rules: each scores queries against keys, s[... i j]. Then, unless the rule says otherwise,")
    print("alpha[... i j] is the softmax of s over j, and o[... i e] = Σ_j alpha_ij v_j.")
    for name, rule in rules.items():
        print_entry(name, rule, rule.module.score.SIGNATURE)
    if options.all:
        print()
        print_mechanisms(options)
    return 0


def print_mechanisms(options):
    print("Mechanisms: attention inside the layers and networks around it.")
    for name, op in mechanisms.items():
        print_entry(name, op, str(op.signature))
    return 0


def print_entry(name, op, signature):
    """Name, first line of the docstring, formula, signature, source, and the slip where there is one."""
    print(f"\n{name}" + "  (a slip of the pen, kept as written)" * bool(op.slip))
    print(fill(op.doc.partition("\n")[0], "  ", "  "))
    rows = {"formula": readable(op.formula), "signature": signature, "source": op.source}
    if op.slip:
        rows["slip"] = op.slip
    for label, text in rows.items():
        print(fill(text, f"  {label:11}", " " * 13))


def fill(text, first, others):
    """The text in lines of WIDTH, broken at spaces outside brackets."""
    held = re.sub(r"\[[^]]*\]|\([^)]*\)", lambda found: found[0].replace(" ", "\0"), text)
    lines = textwrap.fill(held, WIDTH, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)
    return lines.replace("\0", " ")


def run_demo(options):
    from attention_ref import demo

    text, judged = demo.run(options.out)
    print(text)
    return 0 if judged else 1
