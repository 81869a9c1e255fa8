"""The command line: `attention-ref` with `rules`, `mechanisms`, `check`, `power`, `certify`, `vectors` and others."""

import argparse
import os
import re
import sys
import textwrap

from attention_ref import __version__, mechanisms, rules
from attention_ref.cli import check, matrix, vectors
from attention_ref.errors import OptionError, ShapeError
from attention_ref.op.formula import readable
from attention_ref.oracle.exact import certify

WIDTH = 100
STOPPED = 130  # as of a process that ends by SIGINT


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
    except KeyboardInterrupt:
        return refuse("stopped", STOPPED)
    except OSError as error:
        return refuse(f"cannot write {error.filename}: {error.strerror}")
    except (ShapeError, OptionError) as error:
        return refuse(error)


def refuse(sentence, status=2):
    print(f"attention-ref: {sentence}", file=sys.stderr)
    return status


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
    raw = argparse.RawDescriptionHelpFormatter
    text = "check an attention function against the oracle"
    check.add_check(commands.add_parser("check", help=text, formatter_class=raw))
    check.add_cases(commands.add_parser("cases", help="list the cases, and the bug that each catches"))
    check.add_explain(commands.add_parser("explain", help="print a case: its inputs and what should come out"))
    matrix.add_matrix(commands.add_parser("matrix", help="check every preset that can run here"))
    add = commands.add_parser("power", help="plant faults in correct kernels and see which a check finds and names")
    add.add_argument("--rule", default="scaled_dot", help="the attention rule (default: scaled_dot)")
    add.add_argument("--cases", default="core", help="as for check (default: core)")
    add.add_argument("--dtype", default="float32", help="float64, float32, bfloat16 or float16 (default: float32)")
    add.add_argument("--seed", type=int, default=0)
    add.add_argument("--json", metavar="FILE", help="write the outcomes as JSON")
    add.set_defaults(run=run_power)
    add = commands.add_parser("demo", help="check a correct and a subtly wrong attention, and draw both")
    add.add_argument("--out", default="demo", metavar="DIR", help="folder for the heatmaps (default: demo)")
    add.set_defaults(run=run_demo)
    add = commands.add_parser("certify", help="the proven error of every op and rule (needs python-flint)")
    certify.add_arguments(add)
    add.set_defaults(run=certify.run)
    add = commands.add_parser("vectors", help="golden vectors: list, lint, verify a candidate, export")
    vectors.add_arguments(add)
    add.set_defaults(run=vectors.run)
    add = commands.add_parser("plot", help="draw the weights in a file: .npy, .npz or .safetensors")
    if argv[:1] == ["plot"]:
        from attention_ref.cli import plot

        plot.add_arguments(add)
        add.set_defaults(run=plot.run)
    add = commands.add_parser("bench", help="measure attention here, side by side with what else is installed")
    add.add_argument("--rule", default="scaled_dot", help="default: scaled_dot")
    add.add_argument("--lengths", type=counts, default=(512, 2048), metavar="L,L,…", help="default: 512,2048")
    add.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="default: float32")
    add.add_argument("--heads", type=int, default=8, help="default: 8")
    add.add_argument("--width", type=int, default=64, help="of every head and hidden layer (default: 64)")
    add.add_argument("--repeat", type=int, default=5, help="rounds, of which the median counts (default: 5)")
    add.add_argument("--causal", action="store_true", help="with a causal mask")
    add.add_argument("--forward", action="store_true", help="without backward")
    add.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    add.add_argument("--plot", metavar="FILE", help="draw time and memory against L into FILE")
    add.set_defaults(run=run_bench)
    add = commands.add_parser("train", help="train a translator, or a reverser, in front of you")
    if argv[:1] == ["train"]:
        from attention_ref.cli import train as training

        training.add_arguments(add)
        add.set_defaults(run=training.run)
    return top


def run_power(options):
    from attention_ref.oracle.power import power

    found = power(options.rule, options.cases, options.dtype, seed=options.seed)
    print(found)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            file.write(found.to_json())
    return 0


def print_rules(options):
    if options.markdown:
        from attention_ref.cli import catalog

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
    print(f"\n{name}" + "  (an erratum, kept as printed)" * bool(op.erratum))
    print(fill(op.doc.partition("\n")[0], "  ", "  "))
    rows = {"formula": readable(op.formula), "signature": signature, "source": op.source}
    if op.erratum:
        rows["erratum"] = op.erratum
    for label, text in rows.items():
        print(fill(text, f"  {label:11}", " " * 13))


def fill(text, first, others):
    """The text in lines of WIDTH, broken at spaces outside brackets."""
    held = re.sub(r"\[[^]]*\]|\([^)]*\)", lambda found: found[0].replace(" ", "\0"), text)
    lines = textwrap.fill(held, WIDTH, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)
    return lines.replace("\0", " ")


def counts(text):
    """Positive integers between commas."""
    numbers = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
    if not all(numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of lengths such as 512,2048")
    return numbers


def run_bench(options):
    from attention_ref import bench

    size = (options.rule, options.lengths, options.dtype, options.heads, options.width)
    if min(options.heads, options.width, options.repeat) < 1:
        raise OptionError("bench: --heads, --width and --repeat must be 1 or more")
    bench.check_paths(options.json, options.plot)
    result = bench.run(*size, options.causal, not options.forward, options.repeat)
    print(bench.table(result))
    bench.save(result, options.json, options.plot)
    return 0


def run_demo(options):
    from attention_ref import demo

    text, judged = demo.run(options.out)
    print(text)
    return 0 if judged else 1
