"""Check the vector files: schema, hashes, numbering, and that every flag is true of its test and none is missing."""

import json
from pathlib import Path

from attention_ref.errors import OptionError
from attention_ref.pipeline.rule import rules
from attention_ref.vectors import encoding
from attention_ref.vectors.notes import NOTES, flags_of

MOST_SAID = 200  # characters of a message, which may quote the array at fault


def lint(folder=encoding.DATA):
    """Everything that is wrong, a sentence each."""
    folder = Path(folder)
    manifest = json.loads((folder / "MANIFEST.json").read_bytes())
    wrong = list(schema_errors(manifest, load_schema(folder, "manifest"), "MANIFEST.json"))
    wrong += hash_errors(folder, manifest)
    schema, large = load_schema(folder, "vectors"), encoding.load_large(folder)
    for name in encoding.names(folder):
        body = encoding.load(name, folder)
        # What is below reads the file by its schema, and would stumble where it does not fit.
        unfit = list(schema_errors(body, schema, name))
        wrong += unfit or file_errors(name, body, large)
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


def schema_errors(value, schema, name):
    """Where a file does not fit its JSON Schema."""
    try:
        from jsonschema import Draft202012Validator
    except ImportError:
        raise OptionError(
            "vectors lint: schemas are checked by the package jsonschema: pip install jsonschema"
        ) from None
    for error in Draft202012Validator(schema).iter_errors(value):
        place = "/".join([name, *map(str, error.absolute_path)])
        said = error.message
        if error.validator == "anyOf":  # its message repeats the value, which may be the whole test
            said = "fits none of the forms that it may have"
        yield f"{place}: {said[:MOST_SAID]}"
