"""Adding a rule is adding one file: it is found, listed, computed with, and held to all the evidence."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import evidence as ev
import numpy as np
import pytest

import attention_ref as ar
from attention_ref.op.registry import discover
from attention_ref.pipeline.rule import rules_in

DISTANCE = '''
"""Distance: a key is the better the nearer it is to the query, as in a Gaussian kernel."""

import numpy as np

SIGNATURE = "q[... i d] k[... j d] sharpness[] -> s[... i j]"
FORMULA = r"s_{ij} = -\\beta \\|q_i - k_j\\|^2"
SOURCE = "a test"


def definition(xp, q, k, sharpness):
    gaps = q[..., :, None, :] - k[..., None, :, :]
    return -sharpness * xp.sum(gaps * gaps, axis=-1)


def forward(q, k, sharpness):
    squares = np.sum(q * q, axis=-1)[..., :, None] + np.sum(k * k, axis=-1)[..., None, :]
    closeness = 2 * q @ np.swapaxes(k, -1, -2) - squares
    return sharpness * closeness, {"q": q, "k": k, "sharpness": sharpness, "closeness": closeness}


def backward(ds, *, q, k, sharpness, closeness):
    dcloseness = 2 * sharpness * ds
    dq = dcloseness @ k - q * dcloseness.sum(axis=-1)[..., None]
    dk = np.swapaxes(dcloseness, -1, -2) @ q - k * dcloseness.sum(axis=-2)[..., None]
    return {"q": dq, "k": dk, "sharpness": np.sum(ds * closeness)}
'''
WRONG = DISTANCE.replace("- k * dcloseness.sum(axis=-2)[..., None]", "")
TESTS = Path(__file__).parents[1]


@pytest.fixture
def distance(tmp_path, monkeypatch):
    """The rule, found by discovery in a folder that was added to the room of scores."""
    list(ar.rules)  # the registry as it is without the new file
    (tmp_path / "distance.py").write_text(DISTANCE)
    monkeypatch.setattr(ar.score, "__path__", [*ar.score.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    found = rules_in("attention_ref.score", ar.score.__path__)
    assert set(found) - set(ar.rules) == {"distance"}
    monkeypatch.setitem(ar.rules, "distance", found["distance"])
    op = discover("attention_ref.score", ar.score.__path__)["score.distance"]
    monkeypatch.setitem(ar.ops, op.name, op)
    yield found["distance"]
    del sys.modules["attention_ref.score.distance"]
    del ar.score.distance


def test_the_rule_attends(distance):
    inputs = distance.example()
    attended = ar.attention(rule="distance", **inputs)
    gaps = inputs["q"][:, None] - inputs["k"]
    s = -inputs["sharpness"] * np.sum(gaps**2, axis=-1)
    alpha = np.exp(s - s.max(axis=-1, keepdims=True))
    np.testing.assert_allclose(attended.alpha, alpha / alpha.sum(axis=-1, keepdims=True), rtol=1e-11)
    assert set(attended.backward(np.ones((5, 11)))) == {"q", "k", "v", "sharpness"}
    assert "score.distance" in ev.subjects()
    assert "rule.distance" in ev.subjects()


@pytest.fixture
def house(tmp_path):
    """A copy of the package and its evidence, to which a file can be added."""
    shutil.copytree(Path(ar.__file__).parent, tmp_path / "attention_ref", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("support/evidence.py", "evidence/test_evidence.py", "evidence/test_testers.py"):
        (tmp_path / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TESTS / name, tmp_path / "tests" / name)
    shutil.copy(TESTS.parent / "setup.cfg", tmp_path)
    return tmp_path


def evidence_of(house, name):
    wanted = f"{name} or every_op_has"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", "--tb=line", "tests", "-k", wanted]
    return subprocess.run(command, cwd=house, capture_output=True, text=True)


def test_one_file_brings_all_the_evidence(house):
    (house / "attention_ref" / "score" / "distance.py").write_text(DISTANCE)
    done = evidence_of(house, "distance")
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.partition(" passed")[0].split()[-1]) > 80
    assert " skipped" not in done.stdout


def test_a_wrong_backward_in_it_is_caught(house):
    assert WRONG != DISTANCE
    (house / "attention_ref" / "score" / "distance.py").write_text(WRONG)
    done = evidence_of(house, "distance and gradients_are_autograds")
    assert done.returncode == 1
    assert "score.distance: gradient dk through s differs by more than" in done.stdout
    assert "AssertionError: distance: gradient dk through o, alpha, lse differs by more than" in done.stdout
