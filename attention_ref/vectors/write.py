"""Write the vectors: the same bytes on every machine, as every number in them is the exact one, correctly rounded.

Results and gradients come from the definition by ball arithmetic and must be those of the hand-written passes in ball
arithmetic, bit for bit. The bounds are rounded up to 8 bits behind a margin that is wider than any rounding of ours.
"""

import json
from pathlib import Path

import numpy as np

from attention_ref.errors import OptionError
from attention_ref.oracle.bounds.bound import bound
from attention_ref.pipeline.rule import rules
from attention_ref.vectors import format as form
from attention_ref.vectors.cases import LARGE, REFUSED, SIZES, Case, cases
from attention_ref.vectors.integers import draw
from attention_ref.vectors.notes import NOTES, flags_of

MODELS = ("f64", "f32", "tf32", "bf16/f32acc", "f16/f32acc", "fp8/f32acc", "bf16", "f16")
INPUTS = {"f64": "f64", "f32": "f32", "tf32": "f32", "bf16/f32acc": "bf16", "bf16": "bf16", "f16/f32acc": "f16"}
INPUTS |= {"f16": "f16", "fp8/f32acc": "e4m3"}
DIGITS = {"f64": (53, -1074, 1024), "f32": (24, -149, 128), "bf16": (8, -133, 128), "f16": (11, -24, 16)}
TAGS = {"float64": "F64", "bool": "BOOL", "int64": "I64"}
DIGITS |= {"e4m3": (4, -9, 9)}
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
        tests = [large(feature, tcid, tensors) for tcid, feature in enumerate(LARGE, 1)]
        body = document(name, [("large", "scaled_dot", tests)])
        return {"large.json": body, form.LARGE: form.write_safetensors(tensors)}
    if name == "invalid":
        tests = [refused(tcid, *entry) for tcid, entry in enumerate(REFUSED, 1)]
        return {"invalid.json": document(name, [("invalid", "scaled_dot", tests)])}
    groups = {}
    for tcid, case in enumerate(cases(name), 1):
        groups.setdefault(case.feature.group, []).append(vector(case, tcid))
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
    return form.write_json(head)


def vector(case, tcid):
    """One test as it stands in the file."""
    inputs, options = case.inputs(), case.feature.options
    results, gradients, cotangents = answers(case, inputs, options)
    test = {"tcId": tcid, "comment": case.feature.comment, "flags": flags_of(case.rule, inputs, options, cotangents)}
    test["inputs"] = {name: form.encoded_input(x) for name, x in inputs.items()}
    test["options"] = options
    test["cotangents"] = {name: form.encoded_input(x) for name, x in cotangents.items()}
    test["expected"] = expected(results, gradients)
    test["bounds"] = bounds(case.rule, inputs, options, cotangents)
    if case.feature.alternatives:
        test["alternatives"] = {name: alternative(case, inputs, options, name) for name in ("uniform", "nan")}
    test["result"] = "acceptable" if "alternatives" in test else "valid"
    return test


def alternative(case, inputs, options, name):
    """What another convention for empty rows gives."""
    options = options | {"empty_row": name}
    results, gradients, cotangents = answers(case, inputs, options)
    found = expected(results, gradients)
    return {"expected": found, "bounds": bounds(case.rule, inputs, options, cotangents)}


def expected(results, gradients):
    return {
        "results": {name: form.encoded(x) for name, x in results.items()},
        "gradients": {name: form.encoded(x) for name, x in gradients.items()},
    }


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


def bounds(rule, inputs, options, cotangents):
    """{model: {"results": {name: Δ}, "gradients": {name: Δ}}} where the model's inputs hold these numbers exactly."""
    arrays = [x for x in (*inputs.values(), *cotangents.values()) if x.dtype.kind == "f"]
    out = {}
    for model in MODELS:
        if all(fits(x, *DIGITS[INPUTS[model]]) for x in arrays):
            found = bound(rule, inputs, call_options(options), {}, model)
            both = bound(rule, inputs, call_options(options), cotangents, model)
            encoded = {name: form.bits(form.raised(x)) for name, x in both.items()}
            results = {name: x for name, x in encoded.items() if name in found and name not in inputs}
            out[model] = {"results": results, "gradients": {n: x for n, x in encoded.items() if n in inputs}}
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
    encoded = {name: form.encoded_input(x) for name, x in inputs.items()}
    return {"tcId": tcid, "comment": comment, "flags": ["Invalid"], "inputs": encoded, "options": options} | {
        "result": "invalid"
    }


def large(feature, tcid, tensors):
    """A test whose arrays lie in the safetensors file."""
    test = vector(Case("scaled_dot", feature), tcid)

    def moved(entry, path):
        if isinstance(entry, str):
            shape = tensors[expected_path(path)][1].shape
            entry = {"dtype": "bfloat16", "shape": list(shape), "bits": entry}
        if not form.is_array(entry):
            return {name: moved(inner, f"{path}/{name}") for name, inner in entry.items()}
        if entry["dtype"] == "bfloat16":
            raw = np.frombuffer(bytes.fromhex(entry["bits"]), ">u2").reshape(entry["shape"])
            tensors[path] = ("BF16", raw)
        else:
            tensors[path] = (TAGS[entry["dtype"]], form.decoded(entry))
        return {"tensor": path}

    return test | {part: moved(test[part], f"{tcid}/{part}") for part in ("inputs", "cotangents", "expected", "bounds")}


def expected_path(path):
    """Of "1/bounds/bf16/f32acc/results/o", the path of what it bounds."""
    tcid, _, *_, kind, name = path.split("/")
    return f"{tcid}/expected/{kind}/{name}"


def manifest(folder):
    """The names of all files with their SHA-256, and one hash over all."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "MANIFEST.json"]
    hashes = {path.relative_to(folder).as_posix(): form.digest(path.read_bytes()) for path in paths}
    counts = {name: form.load(name, folder)["numberOfTests"] for name in form.names(folder)}
    body = {"format": "attention-ref-vectors", "version": 1, "numberOfTests": sum(counts.values()), "tests": counts}
    body |= {"files": hashes, "content": form.content_hash(hashes)}
    return (json.dumps(body, indent=1) + "\n").encode()
