"""Types on the surface: mypy over a user's file sees right calls pass and wrong ones fail, and the wheel says so."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

RIGHT = """
import numpy as np

import attention_ref as ar

q, k, v = np.random.default_rng(0).standard_normal((3, 2, 5, 4))
a = ar.attention(q, k, v, causal=True, align="bottom_right", window=(2, None), normalize="softmax", tile=None)
gradients: dict[str, np.ndarray] = a.backward(a.o, dlse=a.lse)
weights = a.alpha[0]
masked = ar.attention(q, k, v, rule="additive", allowed=ar.masks.causal(), w_q=q, w_k=k, b=[0.0], w_s=[1.0])
some = ar.sample(q[0], k[0], v[0], rows=[0, 3], causal=True)
rows: np.ndarray | None = some.o
low = ar.emulate("float16")(q, k, v).o
moved = ar.jvp("dot", {"q": q, "k": k, "v": v}, {"q": q})
op: ar.Op = ar.ops["normalize.softmax"]
rule: ar.Rule = ar.rules["scaled_dot"]
value, tape = op.forward(s=q)
report: ar.Report = ar.check(lambda q, k, v: q, rule="scaled_dot", cases="shape-17x17", dtypes=("float32", "bfloat16"))
page: str = str(report) + report.to_json()
passed: bool = report.passed
"""

WRONG = {
    'ar.attention(q, k, v, causal="yes")': "arg-type",
    'ar.attention(q, k, v, align="left")': "arg-type",
    'ar.attention(q, k, v, empty_row="mean")': "arg-type",
    'ar.attention(q, k, v, normalize="softmin")': "arg-type",
    "ar.attention(q, k)": "call-arg",
    "a.backward(a.o, dlsee=a.lse)": "call-arg",
    "ar.sample(q, k, v, rows=[0], casual=True)": "call-arg",
    'ar.emulate("float16", compute="float16")': "arg-type",
    "a.weights": "attr-defined",
    "ar.check(len, case='causal')": "call-arg",
    "ar.check(len, seed='1')": "arg-type",
    "report.failed": "attr-defined",
}


def checked(folder, text):
    """What mypy says of a user's file that imports the package."""
    (folder / "user.py").write_text(text)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--follow-imports=silent",
        "--cache-dir",
        str(folder / "cache"),
        "user.py",
    ]
    environment = {"MYPYPATH": str(ROOT), "PATH": ""}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300).stdout


@pytest.mark.slow
def test_a_users_file(tmp_path):
    lines = RIGHT.strip().splitlines()
    said = checked(tmp_path, "\n".join([*lines, *WRONG]))
    errors = {
        int(line.split(":")[1]): line for line in said.splitlines() if line.startswith("user.py") and ": error:" in line
    }
    first_wrong = len(lines) + 1
    assert [line for number, line in errors.items() if number < first_wrong] == []
    for number, (call, code) in enumerate(WRONG.items(), first_wrong):
        assert f"[{code}]" in errors.get(number, ""), f"mypy does not refuse {call}: {said}"


PUBLIC = (
    *("op/op.py", "op/registry.py", "op/protocol.py", "op/suggest.py"),
    *(
        "masks/predicate.py",
        "masks/band.py",
        "masks/grid.py",
        "masks/packing.py",
        "masks/valid.py",
        "pipeline/cache.py",
    ),
    *("oracle/check.py", "oracle/report/report.py", "oracle/cases/case.py"),
    *("pipeline/attention.py", "pipeline/sample.py", "pipeline/emulate.py", "pipeline/derivatives.py"),
)


@pytest.mark.slow
def test_the_public_modules_have_no_untyped_function(tmp_path):
    files = [str(ROOT / "attention_ref" / name) for name in PUBLIC]
    command = [sys.executable, "-m", "mypy", "--disallow-untyped-defs", "--disallow-incomplete-defs"]
    options = ["--follow-imports=silent", "--ignore-missing-imports", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run([*command, *options, *files], cwd=ROOT, capture_output=True, text=True, timeout=300)
    untyped = [line for line in done.stdout.splitlines() if "no-untyped-def" in line]
    assert untyped == []


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "attention_ref" / "py.typed").exists()
    assert "attention_ref = py.typed" in (ROOT / "setup.cfg").read_text()
