"""`attention-ref vectors`: list, lint, verify a candidate by them, write, export."""

import importlib.util
import textwrap
from pathlib import Path

from attention_ref.errors import OptionError
from attention_ref.op.suggest import did_you_mean
from attention_ref.pipeline.rule import rules
from attention_ref.vectors import encoding
from attention_ref.vectors import verify as verifier
from attention_ref.vectors.candidate import candidate_of
from attention_ref.vectors.lint import lint
from attention_ref.vectors.notes import NOTES

MOST_FAILURES = 12  # printed; as many as a screen holds with the summary


def add_arguments(parser):
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    add = actions.add_parser("list", help="the files, how many tests each has, and what the flags mean")
    add.set_defaults(act=print_list)
    add = actions.add_parser("lint", help="check schema, hashes, and that every flag is true of its test")
    add.set_defaults(act=print_lint)
    add = actions.add_parser("verify", help="run a candidate against the vectors")
    what = "module:function or file.py:function, called like ar.attention, or a preset's name such as torch.sdpa"
    add.add_argument("target", metavar="TARGET", nargs="?", help=what)
    add.add_argument("--command", metavar="PROGRAM", help="a program instead, by docs/subprocess-protocol.md")
    add.add_argument("--backend", help="the framework whose arrays the TARGET wants (default: NumPy)")
    add.add_argument("--rule", help="the candidate's rule (default: all if it takes rule=, else scaled_dot)")
    add.add_argument("--dtype", default="float32", choices=sorted(verifier.MODELS), help="of the inputs (float32)")
    add.add_argument("--model", help="the precision model whose bounds hold (default: by the dtype)")
    add.add_argument("--flag", action="append", default=[], help="only tests with this flag; may be repeated")
    add.add_argument("--without", action="append", default=[], metavar="FLAG", help="no tests with this flag")
    add.add_argument("--file", action="append", help="only these vector files; may be repeated")
    add.set_defaults(act=print_verdict)
    add = actions.add_parser("write", help="make the files anew (needs python-flint)")
    add.add_argument("folder", metavar="DIR")
    add.add_argument("--file", action="append", help="only these files; may be repeated")
    add.set_defaults(act=write)
    add = actions.add_parser("export", help="for other tools: ONNX test data")
    add.add_argument("--onnx", metavar="DIR", required=True, help="model.onnx and test_data_set_0/ for each vector")
    add.set_defaults(act=export)
    for add in actions.choices.values():
        add.add_argument(
            "--data", default=encoding.DATA, type=Path, metavar="DIR", help="other vectors than the package's"
        )


def run(args):
    return args.act(args)


def print_list(args):
    total, used = 0, {}
    for name in encoding.names(args.data):
        body = encoding.load(name, args.data)
        total += body["numberOfTests"]
        print(f"{name:20} {body['numberOfTests']:4}  {', '.join(group['type'] for group in body['testGroups'])}")
        for group in body["testGroups"]:
            for test in group["tests"]:
                for flag in test["flags"]:
                    used[flag] = used.get(flag, 0) + 1
    print(f"{'in all':20} {total:4}\n")
    for flag, note in NOTES.items():
        first = f"{flag:18} {used.get(flag, 0):4}  "
        print(textwrap.fill(note.description, 100, initial_indent=first, subsequent_indent=" " * len(first)))
    return 0


def print_lint(args):
    wrong = lint(args.data)
    for sentence in wrong:
        print(sentence)
    print(f"{len(wrong)} errors" if wrong else "no errors")
    return 1 if wrong else 0


def print_verdict(args):
    for flag in args.flag + args.without:
        if flag not in NOTES:
            raise OptionError(f"there is no flag {flag!r}{did_you_mean(flag, NOTES)}")
    if args.rule is not None and args.rule not in rules:
        raise OptionError(f"there is no rule {args.rule!r}{did_you_mean(args.rule, rules)}")
    candidate = candidate_of(args.target, args.command, args.backend, args.rule)
    summary = verifier.verify(
        candidate,
        args.rule,
        args.dtype,
        args.model,
        args.data,
        args.file,
        args.flag,
        args.without,
    )
    for verdict in summary.failures()[:MOST_FAILURES]:
        print(f"FAILED {verdict.file} {verdict.test['tcId']}: {verdict.test['comment']}")
        print(f"       {verdict.why}  [{' '.join(verdict.test['flags'])}]")
    more = len(summary.failures()) - MOST_FAILURES
    if more > 0:
        print(f"       and {more} more")
    counts = ("passed", "failed", "unsupported", "inexpressible")
    print(", ".join(f"{summary.count(status)} {status}" for status in counts if summary.count(status)))
    print(f"largest error / bound where it passed: {summary.worst:.2g}")
    print("judged: " + ", ".join(f"{name} {count}" for name, count in summary.checked().items()))
    return 0 if summary.passed else 1


def require_package(module, package, extra):
    """Refuse in a sentence what needs a package that is not installed."""
    if importlib.util.find_spec(module) is None:
        raise OptionError(f"this needs the package {package}: pip install 'attention_ref[{extra}]'")


def write(args):
    require_package("flint", "python-flint", "certify")
    from attention_ref.vectors.write import write as write_files

    write_files(args.folder, args.file)
    print(f"written to {args.folder}")
    return 0


def export(args):
    require_package("onnx", "onnx", "onnx")
    from attention_ref.vectors.export import export as export_onnx

    count = export_onnx(args.onnx, args.data)
    print(f"{count} vectors as ONNX test data in {args.onnx}")
    return 0
