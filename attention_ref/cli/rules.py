"""`attention-ref rules`: the catalog of attention rules."""

import re
import textwrap

from attention_ref import mechanisms, rules
from attention_ref.cli import catalog
from attention_ref.op.formula import readable

WIDTH = 100
LABEL = 11  # columns; the longest label is "signature"


def add_arguments(parser):
    parser.add_argument("--all", action="store_true", help="the mechanisms too")
    parser.add_argument("--markdown", action="store_true", help="every op, as the page docs/catalog.md")


def run(args):
    if args.markdown:
        print(catalog.markdown(), end="")
        return 0
    print("Rules: each scores queries against keys, s[... i j]. Then, unless the rule says otherwise,")
    print("alpha[... i j] is the softmax of s over j, and o[... i e] = Σ_j alpha_ij v_j.")
    for name, rule in rules.items():
        print_entry(name, rule, rule.module.score.SIGNATURE)
    if args.all:
        print()
        print_mechanisms()
    return 0


def print_mechanisms():
    print("Mechanisms: attention inside the layers and networks around it.")
    for name, op in mechanisms.items():
        print_entry(name, op, str(op.signature))


def print_entry(name, op, signature):
    """Name, first line of the docstring, formula, signature, source, and the erratum where there is one."""
    rows = {"formula": readable(op.formula), "signature": signature, "source": op.source}
    title = name
    if op.erratum:
        title += "  (an erratum, kept as printed)"
        rows["erratum"] = op.erratum
    print(f"\n{title}")
    print(fill(op.doc.partition("\n")[0], "  ", "  "))
    for label, text in rows.items():
        print(fill(text, f"  {label:{LABEL}}", " " * (2 + LABEL)))


def fill(text, first, others):
    """The text in lines of WIDTH, broken at spaces outside brackets: q[... i d] stays in one piece."""
    joined = re.sub(r"\[[^]]*\]|\([^)]*\)", lambda bracket: bracket[0].replace(" ", "\0"), text)
    lines = textwrap.fill(joined, WIDTH, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)
    return lines.replace("\0", " ")
