"""Write the vectors: the same bytes on every machine, as every number in them is the exact one, correctly rounded.

Results and gradients come from the definition by ball arithmetic and must be those of the hand-written passes in ball
arithmetic, bit for bit. The bounds are rounded up to 8 bits after a margin that is wider than any rounding of ours.
"""

import json
from pathlib import Path

import numpy as np

from attention_ref.errors import OptionError
from attention_ref.oracle.bounds.bound import bound
from attention_ref.pipeline.rule import rules
from attention_ref.vectors import encoding
from attention_ref.vectors.cases import LARGE, REFUSED, SIZES, Case, cases
from attention_ref.vectors.integers import draw
from attention_ref.vectors.notes import NOTES, flags_of

MODELS = ("f64", "f32", "tf32", "bf16/f32acc", "f16/f32acc", "fp8/f32acc", "bf16", "f16")
# The format of each model's inputs.
INPUTS = {
    "f64": "f64",
    "f32": "f32",
    "tf32": "f32",
    "bf16/f32acc": "bf16",
    "bf16": "bf16",
    "f16/f32acc": "f16",
    "f16": "f16",
    "fp8/f32acc": "e4m3",
}
# Of each format: its digits, the exponent of its least subnormal number, the exponent that its numbers stay below.
DIGITS = {
    "f64": (53, -1074, 1024),
    "f32": (24, -149, 128),
    "bf16": (8, -133, 128),
    "f16": (11, -24, 16),
    "e4m3": (4, -9, 9),
}
ARRAYS = ("inputs", "cotangents", "expected", "bounds")
HEADER = [
    "Inputs, exact answers and error bounds for attention and its gradients.",
    "Expected numbers are the exact results, correctly rounded to float64 (nearest, ties to even; zero is +0).",
    "Gradients are those of the sum of <cotangent, result> over the cotangents given.",
    "A result passes in a precision model if no element differs from the expected by more than its bound.",
]


def write(folder, only=None):
    """Write all files, or those named; the manifest covers what lies in the folder then."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in [*rules, "invalid", "large"]:
        if only is None or name in only:
            for file, raw in files(name).items():
                (folder / file).write_bytes(raw)
    (folder / "MANIFEST.json").write_bytes(manifest(folder))


def files(name):
    """{file name: bytes} of one vector file, and of the arrays beside it."""
    if name == "large":
        tensors = {}
        cases_of_file = [Case("scaled_dot", feature) for feature in LARGE]
        tests = [with_tensors(vector(case, tcid), tensors) for tcid, case in enumerate(cases_of_file, 1)]
        body = document(name, [("large", "scaled_dot", tests)])
        return {"large.json": body, encoding.LARGE: encoding.write_safetensors(tensors)}
    if name == "invalid":
        tests = [as_json(refused(tcid, *entry)) for tcid, entry in enumerate(REFUSED, 1)]
        return {"invalid.json": document(name, [("invalid", "scaled_dot", tests)])}
    groups = {}
    for tcid, case in enumerate(cases(name), 1):
        groups.setdefault(case.feature.group, []).append(as_json(vector(case, tcid)))
    return {f"{name}.json": document(name, [(group, name, tests) for group, tests in groups.items()])}


def document(name, groups):
    used = sorted({flag for _, _, tests in groups for test in tests for flag in test["flags"]})
    rule = rules.get(name)
    head = {
        "format": "attention-ref-vectors",
        "version": 1,
        "schema": "schema/vectors.schema.json",
        "file": name,
        "header": HEADER,
        "numberOfTests": sum(len(tests) for _, _, tests in groups),
        "models": list(MODELS),
        "notes": {flag: NOTES[flag].json() for flag in used},
    }
    if rule:
        head["formula"], head["source"] = rule.formula, rule.source
    head["testGroups"] = [
        {"type": group, "rule": name, "signature": str(rules[name].signature), "tests": tests}
        for group, name, tests in groups
    ]
    return encoding.write_json(head)


def vector(case, tcid):
    """One test, with its arrays as they are."""
    inputs, options = case.inputs(), case.feature.options
    expected, bounds, cotangents = answer(case, inputs, options)
    test = {
        "tcId": tcid,
        "comment": case.feature.comment,
        "flags": flags_of(case.rule, inputs, options, cotangents),
        "inputs": {name: encoding.shortest(x) for name, x in inputs.items()},
        "options": options,
        "cotangents": {name: encoding.shortest(x) for name, x in cotangents.items()},
        "expected": expected,
        "bounds": bounds,
    }
    if not case.feature.alternatives:
        return test | {"result": "valid"}
    alternatives = {}
    for convention in ("uniform", "nan"):
        expected, bounds, _ = answer(case, inputs, options | {"empty_row": convention})
        alternatives[convention] = {"expected": expected, "bounds": bounds}
    return test | {"alternatives": alternatives, "result": "acceptable"}


def as_json(test):
    """A test with its arrays as JSON; bounds without a shape, which is that of what they bound."""
    out = test | {part: replaced(test[part], encoding.encoded) for part in ARRAYS if part in test}
    if "bounds" in test:
        out["bounds"] = replaced(test["bounds"], encoding.digits)
    if "alternatives" in test:
        out["alternatives"] = {convention: as_json(other) for convention, other in test["alternatives"].items()}
    return out


def with_tensors(test, tensors):
    """A test whose arrays are put among `tensors`, with the path of each in its place."""

    def put(x, path):
        tensors[path] = encoding.as_tensor(x)
        return {"tensor": path}

    return test | {part: replaced_at(test[part], put, f"{test['tcId']}/{part}") for part in ARRAYS}


def replaced(tree, function):
    """A dict of dicts of arrays with each array replaced by the function of it."""
    return replaced_at(tree, lambda x, _: function(x), "")


def replaced_at(tree, function, path):
    """The same with a function of the array and its path, such as "1/expected/results/o"."""
    if isinstance(tree, dict):
        return {name: replaced_at(inner, function, f"{path}/{name}") for name, inner in tree.items()}
    return function(tree, path)


def answer(case, inputs, options):
    """(expected, bounds, cotangents): expected and bounds as {"results": …, "gradients": …}."""
    results, gradients, cotangents = answers(case, inputs, options)
    expected = {"results": results, "gradients": gradients}
    return expected, bounds_of(case.rule, inputs, options, cotangents), cotangents


def answers(case, inputs, options):
    """(results, gradients, cotangents): by the definition; the hand-written passes must agree in every bit."""
    from attention_ref.oracle.exact import evaluate

    given = inputs | call_options(options)
    results, _ = evaluate.evaluate(case.rule, given)
    cotangents = case.cotangents(results)
    results, gradients = evaluate.evaluate(case.rule, given, cotangents)
    by_hand = evaluate.evaluate_by_hand(case.rule, given, cotangents)
    for mine, other in zip((results, gradients), by_hand, strict=True):
        for name, x in mine.items():
            if not np.array_equal(x, other[name], equal_nan=True):
                raise OptionError(f"{case.name}: definition and hand-written passes differ in {name}")
    return results, gradients, cotangents


def call_options(options):
    """Options as `ar.attention` takes them; JSON has no tuples."""
    return {name: tuple(x) if isinstance(x, list) else x for name, x in options.items()}


def bounds_of(rule, inputs, options, cotangents):
    """{model: {"results": {name: Δ}, "gradients": {name: Δ}}} where the model's inputs hold these numbers exactly."""
    arrays = [x for x in (*inputs.values(), *cotangents.values()) if x.dtype.kind == "f"]
    out = {}
    for model in MODELS:
        if all(fits(x, *DIGITS[INPUTS[model]]) for x in arrays):
            bounded = bound(rule, inputs, call_options(options), cotangents, model)
            bounded = {name: encoding.rounded_up(x) for name, x in bounded.items()}
            forward = bound(rule, inputs, call_options(options), {}, model)
            results = {name: x for name, x in bounded.items() if name in forward and name not in inputs}
            gradients = {name: x for name, x in bounded.items() if name in inputs}
            out[model] = {"results": results, "gradients": gradients}
    return out


def fits(x, digits, least, most):
    """Can a format of so many digits, from 2^least and below 2^most, hold all of these?"""
    x = x[np.isfinite(x) & (x != 0)]
    fraction, exponent = np.frexp(x)
    scaled = np.ldexp(fraction, np.minimum(digits, exponent - least))
    return bool(np.all(scaled == np.round(scaled)) and np.all(exponent <= most))


def refused(tcid, comment, arrays, options):
    """A call that must be refused."""
    sizes = {"q": (SIZES["i"], SIZES["d"]), "k": (SIZES["j"], SIZES["d"]), "v": (SIZES["j"], SIZES["e"])}
    inputs = {name: draw(f"invalid/{comment}/{name}", shape) for name, shape in sizes.items()} | arrays
    return {
        "tcId": tcid,
        "comment": comment,
        "flags": ["Invalid"],
        "inputs": {name: encoding.shortest(x) for name, x in inputs.items()},
        "options": options,
        "result": "invalid",
    }


def manifest(folder):
    """The names of all files with their SHA-256, and one hash over all."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "MANIFEST.json"]
    hashes = {path.relative_to(folder).as_posix(): encoding.digest(path.read_bytes()) for path in paths}
    counts = {name: encoding.load(name, folder)["numberOfTests"] for name in encoding.names(folder)}
    body = {"format": "attention-ref-vectors", "version": 1, "numberOfTests": sum(counts.values()), "tests": counts}
    body |= {"files": hashes, "content": encoding.content_hash(hashes)}
    return (json.dumps(body, indent=1) + "\n").encode()
