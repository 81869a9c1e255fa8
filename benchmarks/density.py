"""How dense code is: conditional expressions, comprehensions, comments and others, in 1,000 lines.

python -m benchmarks.density attention_ref /path/to/another/package

A thermometer and no gate: nobody should write code to move these numbers.
"""

import argparse
import ast
import sys
import tokenize
from collections import Counter
from io import StringIO
from pathlib import Path

FOR_TOOLS = ("# fmt:", "# isort:", "# noqa", "# pragma", "# pylint:", "# ruff:", "# type:")  # not for a reader
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
PER_1000_LINES = {
    "conditional": "conditional expressions",
    "nested": "of them with another inside",
    "comprehension": "comprehensions",
    "comment": "comments",
}
PERCENT_OF_FUNCTIONS = {"annotated": "functions annotated", "documented": "functions with a docstring"}


def counts(folder):
    """A Counter over every Python file under a folder, or of one file."""
    paths = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder]
    total: Counter[str] = Counter()
    for path in paths:
        total["files"] += 1
        total += file_counts(path)
    return total


def file_counts(path):
    with tokenize.open(path) as file:
        source = file.read()
    count = Counter(lines=len(source.splitlines()))
    for token in tokenize.generate_tokens(StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith(FOR_TOOLS):
            count["comment"] += 1
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.IfExp):
            count["conditional"] += 1
            count["nested"] += any(isinstance(part, ast.IfExp) for part in (node.test, node.body, node.orelse))
        elif isinstance(node, COMPREHENSIONS):
            count["comprehension"] += 1
        elif isinstance(node, FUNCTIONS):
            count["function"] += 1
            count["annotated"] += is_annotated(node)
            count["documented"] += ast.get_docstring(node) is not None
    return count


def is_annotated(function):
    """Whether the result or any argument has a type."""
    a = function.args
    arguments = [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg]
    return function.returns is not None or any(x is not None and x.annotation is not None for x in arguments)


def rows(counters):
    """(label, a cell for each counter) of every row of the table."""
    for name in ("files", "lines", "function"):
        yield f"{name.removesuffix('s')}s", [f"{count[name]:,}" for count in counters]
    for name, label in PER_1000_LINES.items():
        yield f"{label}, per 1,000 lines", [per(1000, count[name], count["lines"]) for count in counters]
    for name, label in PERCENT_OF_FUNCTIONS.items():
        yield f"{label}, %", [per(100, count[name], count["function"]) for count in counters]


def per(unit, part, total):
    """`part` in so many of `total`, and the number itself: 2.0 (47)."""
    return f"{unit * part / total:.1f} ({part:,})" if total else "-"


def table(folders):
    counters = [counts(folder) for folder in folders]
    width = max(16, *(len(folder.name) + 2 for folder in folders))
    lines = [" " * 46 + "".join(f"{folder.resolve().name:>{width}}" for folder in folders)]
    for label, cells in rows(counters):
        lines.append(f"{label:46}" + "".join(f"{cell:>{width}}" for cell in cells))
    return "\n".join(lines)


def main(argv=None):
    parser = argparse.ArgumentParser("python -m benchmarks.density", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="a package, or any folder or file")
    args = parser.parse_args(argv)
    for folder in args.folders:
        if not folder.exists():
            parser.error(f"there is no {folder}")
    print(table(args.folders))
    return 0


if __name__ == "__main__":
    sys.exit(main())
