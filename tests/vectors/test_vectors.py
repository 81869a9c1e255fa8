"""The golden vectors: the files, their lint, a candidate's verdict, and the command."""

import json
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

import attention_ref as ar
from attention_ref.cli.main import main
from attention_ref.vectors import encoding
from attention_ref.vectors.integers import draw, draws, fnv1a
from attention_ref.vectors.lint import lint
from attention_ref.vectors.notes import NOTES
from attention_ref.vectors.verify import verify

CANDIDATES = Path(__file__).parents[1] / "support" / "vector_candidates.py"


def test_there_are_enough_and_they_are_small():
    tests = list(encoding.vectors())
    assert len(tests) >= 400
    assert sum(path.stat().st_size for path in encoding.DATA.rglob("*")) < 5_000_000
    assert {group["rule"] for _, group, _ in tests} == set(ar.rules)


def test_every_flag_and_every_option_occurs():
    tests = [test for _, _, test in encoding.vectors()]
    assert {flag for test in tests for flag in test["flags"]} == set(NOTES)
    assert {test["result"] for test in tests} == {"valid", "invalid", "acceptable"}
    given = {name for test in tests if test["result"] != "invalid" for name in (*test["inputs"], *test["options"])}
    rule = ar.rules["scaled_dot"]
    wanted = {*rule.arguments, *rule.options} - {"mask", "rounding", "tile", "executor", "out"}
    assert wanted <= given


def test_lint_finds_nothing():
    assert lint() == []


def damaged(tmp_path, change, rehash=True):
    """What lint says of a copy of the vectors in which one file was changed."""
    folder = tmp_path / "v1"
    shutil.copytree(encoding.DATA, folder)
    body = encoding.load("dot", folder)
    change(body)
    raw = encoding.write_json(body)
    (folder / "dot.json").write_bytes(raw)
    if rehash:
        manifest = json.loads((folder / "MANIFEST.json").read_bytes())
        manifest["files"]["dot.json"] = encoding.digest(raw)
        manifest["content"] = encoding.content_hash(manifest["files"])
        (folder / "MANIFEST.json").write_text(json.dumps(manifest))
    return "\n".join(lint(folder))


def first(body):
    return body["testGroups"][0]["tests"][0]


FAULTS = {
    "untrue or missing": lambda body: first(body)["flags"].append("Causal"),
    "['Rectangular'] are untrue or missing": lambda body: first(body)["flags"].remove("Rectangular"),
    "numberOfTests is 7": lambda body: body.update(numberOfTests=7),
    "wrongly or not": lambda body: body["notes"].pop("Mask"),
    "the note Mask was changed": lambda body: body["notes"]["Mask"].update(description="?"),
    "testGroups/0/tests/0: 'comment' is a required property": lambda body: first(body).pop("comment"),
    "('color' was unexpected)": lambda body: first(body).update(color="red"),
    "'fine' is not one of ['valid', 'invalid', 'acceptable']": lambda body: first(body).update(result="fine"),
    "inputs/q: fits none of the forms": lambda body: first(body)["inputs"]["q"].update(bits="xyz"),
    "not as many as the numbers": lambda body: first(body)["bounds"]["f32"]["results"].update(o="3c80"),
    "not one gradient for every": lambda body: first(body)["expected"]["gradients"].pop("q"),
    "acceptable exactly if": lambda body: first(body).update(result="acceptable"),
    "stands twice": lambda body: body["testGroups"][0]["tests"][1].update(comment=first(body)["comment"]),
}


@pytest.mark.parametrize("said", FAULTS)
def test_lint_finds_a_planted_fault(tmp_path, said):
    assert said in damaged(tmp_path, FAULTS[said])


def test_lint_needs_a_package_and_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(ar.OptionError, match="pip install jsonschema"):
        lint()


def test_lint_finds_a_changed_byte(tmp_path):
    said = damaged(tmp_path, lambda body: body.update(source="elsewhere"), rehash=False)
    assert said == "dot.json has not the hash of the manifest"


def test_lint_finds_a_missing_file(tmp_path):
    folder = tmp_path / "v1"
    shutil.copytree(encoding.DATA, folder)
    (folder / "cosine.json").unlink()
    assert "cosine.json is in the manifest only" in lint(folder)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_we_pass(dtype):
    summary = verify(ar.attention, dtype=dtype)
    assert summary.failures() == []
    assert summary.count("unsupported") == 0
    assert summary.count("passed") + summary.count("inexpressible") == len(summary.verdicts) >= 400
    assert summary.worst < 0.2


def wrong(q, k, v, **given):
    """Ours, with one slip."""
    slip, rule = given.pop("slip"), given.get("rule", "scaled_dot")
    return slip(ar.attention, q, k, v, given | {"rule": rule})


def scaled_by_value_width(attend, q, k, v, given):
    return attend(q, k, v, **{"scale": v.shape[-1] ** -0.5} | given)


def window_off_by_one(attend, q, k, v, given):
    left, right = given.get("window", (None, None))
    return attend(q, k, v, **given | ({"window": (left + 1, right)} if left else {}))


def heads_in_turn(attend, q, k, v, given):
    if q.ndim == 3 and k.ndim == 3 and 1 < len(k) < len(q):
        order = np.arange(len(q)) % len(k)
        k, v = k[order], v[order]
    return attend(q, k, v, **given).o


def forgets_the_sink(attend, q, k, v, given):
    given.pop("sink", None)
    return attend(q, k, v, **given)


def bias_before_softcap(attend, q, k, v, given):
    if "softcap" in given and "bias" in given and "scale" in given:
        s = (q @ k.T * given["scale"] + given["bias"]) / given["softcap"]
        return attend(q, k, v, bias=given["softcap"] * np.tanh(s), scale=0.0).o
    return attend(q, k, v, **given)


SLIPS = {
    scaled_by_value_width: "ValueWidth",
    window_off_by_one: "WindowEdge",
    heads_in_turn: "GroupedHeads",
    forgets_the_sink: "Sink",
    bias_before_softcap: "Softcap",
}


@pytest.mark.parametrize("slip", SLIPS, ids=lambda slip: slip.__name__)
def test_a_wrong_candidate_fails_where_the_flag_says(slip):
    failed = verify(lambda q, k, v, **given: wrong(q, k, v, slip=slip, **given), "scaled_dot", only=["scaled_dot"])
    assert failed.failures()
    assert all(SLIPS[slip] in verdict.test["flags"] for verdict in failed.failures())


def test_a_wrong_gradient_fails():
    def candidate(q, k, v):
        attended = ar.attention(q, k, v)
        return attended.o, lambda do: {**attended.backward(do), "k": attended.backward(do)["k"] * np.float32(1 + 1e-4)}

    verdicts = verify(candidate, flags=["ValueWidth"]).failures()
    assert verdicts
    assert all(verdict.why.startswith("dk[") for verdict in verdicts if verdict.test["result"] != "invalid")


@pytest.mark.parametrize("empty_row", ["zero", "uniform", "nan"])
def test_every_convention_for_dead_rows_is_acceptable(empty_row):
    def candidate(q, k, v, allowed=None):
        return ar.attention(q, k, v, allowed=allowed, empty_row=empty_row)

    verdicts = verify(candidate, dtype="float64", flags=["DeadRow"]).verdicts
    status = {verdict.test["comment"]: verdict.status for verdict in verdicts}
    assert status["a row with nothing allowed"] == status["nothing allowed"] == "passed"


def test_nan_passes_only_where_nan_is_right():
    summary = verify(lambda q, k, v: np.full((*q.shape[:-1], v.shape[-1]), np.nan), only=["scaled_dot"])
    assert summary.count("passed") == 0
    assert not summary.passed


def test_arrays_survive_the_files():
    rng = np.random.default_rng(0)
    for x in (rng.standard_normal((2, 3)), np.array([np.nan, -np.inf, 5e-324, -0.0]), np.array(2.5), np.zeros((0, 2))):
        for entry in (encoding.encoded(x), encoding.encoded(encoding.shortest(x))):
            again = encoding.decoded(json.loads(json.dumps(entry)))
            assert np.array_equal(again, x, equal_nan=True)
            assert again.shape == x.shape
    assert encoding.encoded(encoding.shortest(np.array(1.875)))["bits"] == "3ff0"
    assert encoding.encoded(np.array(1.0))["bits"] == struct.pack(">d", 1.0).hex()


def test_bounds_are_rounded_up():
    x = np.concatenate([np.random.default_rng(1).exponential(1, 1000) * 10.0 ** np.linspace(-50, 0, 1000), [0, np.inf]])
    up = encoding.widened(encoding.rounded_up(x).bits)
    assert (up >= x).all()
    normal = x[:-2] > 2.0**-126
    assert (up[:-2][normal] <= x[:-2][normal] * (1 + 2.0**-6)).all()
    assert (up[:-2][~normal] <= x[:-2][~normal] + 2.0**-132).all()
    assert up[-2] == 0
    assert np.isposinf(up[-1])


def test_safetensors_are_written_to_the_byte():
    arrays = {"b": ("F64", np.array([1.5])), "a": ("BF16", np.array([[0x3FC0]], np.uint16))}
    raw = encoding.write_safetensors(arrays)
    header = b'{"a":{"dtype":"BF16","shape":[1,1],"data_offsets":[0,2]},'
    header += b'"b":{"dtype":"F64","shape":[1],"data_offsets":[2,10]}}'
    header += b" " * (-len(header) % 8)
    assert raw == struct.pack("<Q", len(header)) + header + b"\xc0\x3f" + struct.pack("<d", 1.5)
    again = encoding.read_safetensors(raw)
    assert again["a"].tolist() == [[1.5]]
    assert again["b"].tolist() == [1.5]


def test_the_generator_is_as_specified():
    assert fnv1a("") == 0x811C9DC5
    assert fnv1a("a") == 0xE40C292C  # the published hash of "a"
    x = 0xE40C292C
    x = (x ^ x << 13) % 2**32
    x ^= x >> 17
    x = (x ^ x << 5) % 2**32
    assert draws("a", 1) == [x >> 8]
    assert draw("a", (1,)).tolist() == [((x >> 8) % 31 - 15) / 8]
    values = draw("b", (1000,))
    assert set(values.tolist()) == {n / 8 for n in range(-15, 16)}


def test_inputs_are_those_of_the_generator():
    for file, _, test in encoding.vectors(only=["dot"]):
        if set(test["flags"]) <= {"Rectangular", "ValueWidth"}:
            q = encoding.decoded(test["inputs"]["q"])
            assert np.array_equal(q, draw(f"{file}/{test['comment']}/q", q.shape)) or "zero" in test["comment"]


def run(capsys, *arguments):
    status = main(list(arguments))
    return status, *capsys.readouterr()


def test_the_command_lists_and_lints(capsys):
    assert run(capsys, "vectors", "lint")[:2] == (0, "no errors\n")
    status, out, _ = run(capsys, "vectors", "list")
    assert status == 0
    assert all(flag in out for flag in NOTES)
    assert max(map(len, out.splitlines())) <= 100


def test_the_command_verifies(capsys):
    status, out, _ = run(capsys, "vectors", "verify", "attention_ref:attention", "--file", "cosine")
    assert status == 0
    assert "passed" in out
    status, out, _ = run(capsys, "vectors", "verify", f"{CANDIDATES}:leaks_nan", "--flag", "NaNBehindMask")
    assert status == 1
    assert "NaN in a masked value" in out
    status, out, _ = run(capsys, "vectors", "verify", f"{CANDIDATES}:top_left", "--flag", "CausalRectangular")
    assert status == 1
    assert "bottom right" in out
    few = "--without", "CausalRectangular", "--flag", "Causal"
    assert run(capsys, "vectors", "verify", f"{CANDIDATES}:top_left", *few)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("verify", "no_such_module:f"), "cannot import no_such_module"),
        (("verify", "no_such_module"), "there is no preset 'no_such_module'"),
        (("verify", "attention_ref:atention"), "no atention in attention_ref"),
        (("verify", "attention_ref:attention", "--flag", "Masc"), "did you mean 'Mask'"),
        (("verify", "attention_ref:attention", "--rule", "scaled"), "did you mean 'scaled_dot'"),
    ],
)
def test_the_command_refuses_in_one_sentence(capsys, arguments, said):
    status, _, err = run(capsys, "vectors", *arguments)
    assert status == 2
    assert said in err
    assert err.count("\n") == 1


PROGRAM = """
import sys
import numpy as np
from attention_ref.backend import wire

arrays, words = wire.decode(sys.stdin.buffer.read())
q, k, v = arrays["q"], arrays["k"], arrays["v"]
s = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1], dtype=q.dtype)
e = np.exp(s - s.max(axis=-1, keepdims=True))
alpha = FACTOR * e / e.sum(axis=-1, keepdims=True)
found = {"o": alpha @ v}
if words["role"] == "backward":
    dalpha = arrays["do"] @ np.swapaxes(v, -1, -2)
    ds = alpha * (dalpha - (alpha * dalpha).sum(axis=-1, keepdims=True)) / np.sqrt(q.shape[-1], dtype=q.dtype)
    found = {"dq": ds @ k, "dk": np.swapaxes(ds, -1, -2) @ q, "dv": np.swapaxes(alpha, -1, -2) @ arrays["do"]}
if k.shape[:-2] != q.shape[:-2] or set(words) - {"protocol", "role"} or set(arrays) - {"q", "k", "v", "do", "o", "lse"}:
    found, words = {}, {"unsupported": "no options"}
sys.stdout.buffer.write(wire.encode(found, {"protocol": "1"} | {n: x for n, x in words.items() if n == "unsupported"}))
"""


@pytest.mark.parametrize(("factor", "status"), [("1", 0), ("q.dtype.type(1.01)", 1)], ids=["right", "wrong"])
def test_a_program_is_judged_too(tmp_path, capsys, factor, status):
    (tmp_path / "program.py").write_text(PROGRAM.replace("FACTOR", factor))
    command = f"{sys.executable} {tmp_path / 'program.py'}"
    few = ("--file", "scaled_dot", "--flag", "TiedMaxima")
    found, out, _ = run(capsys, "vectors", "verify", "--command", command, *few)
    assert found == status
    assert ("FAILED" in out) == bool(status)
    assert ("dq " in out) == (status == 0)
