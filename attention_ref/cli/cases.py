"""`attention-ref cases`: the cases by name, and the bug that each one catches."""

from textwrap import fill

from attention_ref.oracle.cases.select import select

WIDTH = 100
INDENT = " " * 4


def add_arguments(parser):
    parser.add_argument("cases", nargs="?", default="core", metavar="CASES", help="core, full, long, flag:GQA, a name")


def run(args):
    cases = select(args.cases)
    for case in cases:
        flags = f"  [{', '.join(case.flags)}]" if case.flags else ""
        print(f"{case.name}{flags}")
        print(fill(case.why, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT))
    print("1 case" if len(cases) == 1 else f"{len(cases)} cases")
    return 0
