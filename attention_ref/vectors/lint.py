"""Check the vector files: schema, hashes, numbering, and that every flag is true of its test and none is missing."""

import json
import re
from pathlib import Path
from typing import Any

from attention_ref.pipeline.attention import rules
from attention_ref.vectors import encoding
from attention_ref.vectors.notes import NOTES, flags_of

KINDS: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


def lint(folder=encoding.DATA):
    """Everything that is wrong, a sentence each."""
    folder = Path(folder)
    manifest = json.loads((folder / "MANIFEST.json").read_bytes())
    wrong = list(schema_errors(manifest, load_schema(folder, "manifest"), "MANIFEST.json"))
    wrong += hash_errors(folder, manifest)
    schema, large = load_schema(folder, "vectors"), encoding.load_large(folder)
    for name in encoding.names(folder):
        body = encoding.load(name, folder)
        found = list(schema_errors(body, schema, name))
        wrong += found or file_errors(name, body, large)
    return wrong


def load_schema(folder, name):
    return json.loads((folder / "schema" / f"{name}.schema.json").read_bytes())


def hash_errors(folder, manifest):
    hashes = {
        path.relative_to(folder).as_posix(): encoding.digest(path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and path.name != "MANIFEST.json"
    }
    for name in sorted(hashes.keys() ^ manifest["files"].keys()):
        yield f"{name} is {'not in the manifest' if name in hashes else 'in the manifest only'}"
    for name in sorted(hashes.keys() & manifest["files"].keys()):
        if hashes[name] != manifest["files"][name]:
            yield f"{name} has not the hash of the manifest"
    if encoding.content_hash(manifest["files"]) != manifest["content"]:
        yield "the content hash is not that of the files"


def file_errors(name, body, large):
    """What the schema cannot say of one file."""
    wrong, count, used, comments = [], 0, set(), set()
    if body["file"] != name:
        wrong.append(f"{name}: the file calls itself {body['file']}")
    for group in body["testGroups"]:
        for test in group["tests"]:
            count += 1
            used |= set(test["flags"])
            label = f"{name} {test['tcId']} ({test['comment']})"
            if test["comment"] in comments:
                wrong.append(f"{label}: the comment stands twice")
            comments.add(test["comment"])
            wrong += [f"{label}: {what}" for what in test_errors(group, test, large)]
    if count != body["numberOfTests"]:
        wrong.append(f"{name}: numberOfTests is {body['numberOfTests']}; there are {count}")
    if used != set(body["notes"]):
        wrong.append(f"{name}: the notes explain {sorted(set(body['notes']) ^ used)} wrongly or not")
    return wrong + [
        f"{name}: the note {flag} was changed" for flag in body["notes"] if body["notes"][flag] != NOTES[flag].json()
    ]


def test_errors(group, test, large):
    if group["rule"] not in rules:
        yield f"there is no rule {group['rule']}"
        return
    if test["result"] == "invalid":
        if test["flags"] != ["Invalid"] or "expected" in test:
            yield "an invalid test has the flag Invalid and nothing expected"
        return
    if (test["result"] == "acceptable") != ("alternatives" in test):
        yield "a test is acceptable exactly if it has alternatives"
    inputs, cotangents = (encoding.tree(test[part], large) for part in ("inputs", "cotangents"))
    right = flags_of(rules[group["rule"]], inputs, test["options"], cotangents)
    if right != test["flags"]:
        yield f"the flags {sorted(set(right) ^ set(test['flags']))} are untrue or missing"
    for want in (test, *test.get("alternatives", {}).values()):
        yield from answer_errors(want, inputs, large)


def answer_errors(want, inputs, large):
    expected = want["expected"]
    floating = [name for name, x in inputs.items() if x.dtype.kind == "f"]
    if sorted(expected["gradients"]) != sorted(floating):
        yield "there is not one gradient for every floating-point input"
    for name, entry in expected["gradients"].items():
        if name in inputs and encoding.decoded(entry, large).shape != inputs[name].shape:
            yield f"the gradient of {name} has not its shape"
    for model, bounds in want["bounds"].items():
        for kind in ("results", "gradients"):
            if set(bounds[kind]) != set(expected[kind]):
                yield f"the bounds of {model} are not those of the {kind}"
            for name, entry in bounds[kind].items():
                known = isinstance(entry, str) and name in expected[kind]
                if known and len(entry) != 4 * encoding.decoded(expected[kind][name], large).size:
                    yield f"the bounds of {model} for {name} are not as many as the numbers"


def schema_errors(value, schema, where, root=None):
    """The part of JSON Schema that ours use: type, enum, pattern, required, properties, additionalProperties, items."""
    root = root or schema
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        if not any(not list(schema_errors(value, option, where, root)) for option in schema["anyOf"]):
            yield f"{where} is none of what it may be"
        return
    kind = schema.get("type")
    if kind and (not isinstance(value, KINDS[kind]) or isinstance(value, bool)):
        yield f"{where} is no {kind}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where} is {value!r}, none of {schema['enum']}"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{where} does not match {schema['pattern']}"
    if isinstance(value, dict):
        for name in schema.get("required", ()):
            if name not in value:
                yield f"{where} lacks {name}"
        for name, inner in value.items():
            known = schema.get("properties", {}).get(name, schema.get("additionalProperties", True))
            if known is False:
                yield f"{where} has {name}, which it may not"
            elif isinstance(known, dict):
                yield from schema_errors(inner, known, f"{where}/{name}", root)
    if isinstance(value, list) and "items" in schema:
        for at, inner in enumerate(value):
            yield from schema_errors(inner, schema["items"], f"{where}/{at}", root)
