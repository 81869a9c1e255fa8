"""A case in words and numbers: what goes in, which bug it catches, what should come out."""

from textwrap import fill

import numpy as np

from attention_ref.errors import OptionError
from attention_ref.op.suggest import suggestion
from attention_ref.op.words import first_line
from attention_ref.oracle.bounds import number_formats
from attention_ref.oracle.cases.case import build
from attention_ref.oracle.cases.layouts import LAYOUTS
from attention_ref.oracle.cases.option_values import RECIPES
from attention_ref.oracle.cases.suite import CASES
from attention_ref.oracle.cases.value_families import FAMILIES
from attention_ref.oracle.run.truth import Truth
from attention_ref.pipeline.rule import find

WIDTH = 100
SHOWN = 4  # numbers of an array: what fits beside its name and shape


def explain(name, rule="scaled_dot", dtype="float32", seed=0):
    """A page on one case."""
    if name not in CASES:
        match = suggestion(name, CASES)
        advice = f"did you mean {match!r}?" if match else "attention-ref cases full lists them"
        raise OptionError(f"there is no case {name!r}; {advice}")
    case, rule, fmt = CASES[name], find(rule), number_formats.find(dtype)
    lines = [name, paragraph(f"Catches: {case.why}")]
    if case.flags:
        lines[0] = f"{name}   [{', '.join(case.flags)}]"
    unfit = case.unfit(rule)
    if unfit:
        return "\n".join([*lines, paragraph(unfit)])
    inputs = build(case, rule, fmt, seed)
    truth = Truth(rule, inputs, fmt.model)
    lines += ["", f"Inputs, rounded to {fmt.name}, for the rule {rule.name}, seed {seed}"]
    lines += [row(n, x) for n, x in inputs.arrays.items()]
    lines += [paragraph(f"values: {case.values}. {summary(FAMILIES[case.values])}")]
    if case.layout != "contiguous":
        lines += [paragraph(f"in memory: {case.layout}. {summary(LAYOUTS[case.layout])}")]
    if case.poison is not None:
        lines += [paragraph(f"poison: {case.poison:g} wherever nobody may look")]
    if inputs.options:
        lines += ["", "Options"]
    for option, x in inputs.options.items():
        recipe = case.options.get(option)
        lines += [row(option, x)]
        if isinstance(recipe, str) and recipe.startswith("@"):
            lines += [paragraph(f"recipe {recipe[1:]}. {summary(RECIPES[recipe[1:]])}", 6)]
    lines += ["", "Expected, in float64, and the largest error that a correct kernel can make"]
    bounds = truth.bounds(case.backward)
    for result, x in truth.forward().items():
        lines += [row(result, x, bounds.get(result))]
    if case.backward:
        for result, x in truth.backward().items():
            lines += [row(f"d{result}", x, bounds.get(result))]
    return "\n".join(lines)


def paragraph(text, indent=2):
    return fill(text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2))


def summary(function):
    return first_line(function.__doc__ or "")


def row(name, x, bound=None):
    """A name, a shape and the first numbers; of anything else the value."""
    if isinstance(x, tuple) and any(isinstance(part, np.ndarray) for part in x):
        return "\n".join(row(name, part) for part in x)
    if not isinstance(x, np.ndarray):
        return f"  {name:<14} {x!r}"
    first = x.ravel()[:SHOWN].tolist()
    numbers = ", ".join(f"{number:.7g}" if x.dtype.kind == "f" else str(number) for number in first)
    shape = "x".join(map(str, x.shape)) or "scalar"
    line = f"  {name:<14} {shape:<14} {numbers}"
    if x.size > SHOWN:
        line += ", …"
    if bound is not None and np.size(bound):
        line += f"   bound {np.max(bound):.2g}"
    return line
