"""The pytest plugin as an installation gives it: in a fresh environment, by its entry point, in another project."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PROJECT = """
import pytest
import attention_ref as ar

def right(q, k, v, causal=False, align=None, allowed=None):
    return ar.attention(q, k, v, causal=causal, align=align, allowed=allowed).o

def wrong(q, k, v, causal=False, align=None, allowed=None):
    return ar.attention(q, k, v, causal=causal, align="bottom_right", allowed=allowed).o

cases = "causal,causal-top-left,causal-bottom-right,mask-half"

@pytest.mark.attention_cases(cases)
def test_right(attention_case):
    attention_case.check(right)

@pytest.mark.attention_cases(cases)
def test_wrong(attention_case):
    attention_case.check(wrong)
"""
EXPECTED = PROJECT.replace("(cases)", '(cases, xfail={"causal-top-left": REASON})')
PLAIN = "import sys\ndef test_it():\n    assert not {'numpy', 'attention_ref'} & set(sys.modules)\n"


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of a fresh environment with the project installed, beside what is installed here."""
    folder = tmp_path_factory.mktemp("installed")
    shutil.copytree(
        ROOT / "attention_ref", folder / "source/attention_ref", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("attention_ref_pytest.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source" / name)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", folder / "source"], check=True)
    where = subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True)
    (Path(where.strip()) / "beside.pth").write_text(sysconfig.get_path("purelib"))
    return python


@pytest.fixture
def run(python, tmp_path):
    def ran(source, *arguments):
        (tmp_path / "test_project.py").write_text(source)
        hidden = ("PYTHONPATH", "PYTEST_ADDOPTS", "PYTEST_PLUGINS")
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        command = [python, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
        return done.stdout, done.stdout.splitlines()[-1]

    return ran


def test_exactly_the_wrong_kernel_fails_with_the_diagnosis(run):
    text, last = run(PROJECT)
    assert "1 failed, 7 passed" in last, text
    assert "Diagnosis: every case agrees to" in text
    assert 'align="bottom_right"' in text
    assert "FAILED test_project.py::test_wrong[causal-top-left-float32]" in text


def test_k_x_and_processes(run):
    assert "2 passed, 6 deselected" in run(PROJECT, "-k", "mask-half")[1]
    assert "1 failed, 5 passed" in run(PROJECT, "-x")[1]
    assert "1 failed, 7 passed" in run(PROJECT, "-n", "2")[1]
    assert "1 failed, 7 passed" in run(PROJECT, "-p", "attention_ref_pytest")[1]


def test_junit(run, tmp_path):
    run(PROJECT, "--junitxml", "out.xml")
    suite = ElementTree.parse(tmp_path / "out.xml").find("testsuite")
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "8", "failures": "1", "errors": "0", "skipped": "0"
    }  # fmt: skip
    (failed,) = suite.iter("failure")
    assert "Diagnosis: " in failed.text


def test_expected_failures_are_strict_and_have_a_reason(run):
    text, last = run(EXPECTED.replace("REASON", '"only the other corner"'))
    assert "1 failed, 6 passed, 1 xfailed" in last, text
    assert "[XPASS(strict)] only the other corner" in text
    assert "the expected failure 'causal-top-left' must have a reason" in run(EXPECTED.replace("REASON", '" "'))[0]


def test_a_project_that_asks_for_no_case_pays_nothing(run):
    text, last = run(PLAIN, "-p", "no:hypothesispytest")
    assert "1 passed" in last, text
