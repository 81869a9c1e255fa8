"""The pytest plugin, in a project with one right and one wrong kernel."""

import subprocess
import sys

import pytest

PROJECT = """
import pytest
import attention_ref as ar

def right(q, k, v, causal=False, align=None, allowed=None):
    return ar.attention(q, k, v, causal=causal, align=align, allowed=allowed).o

def wrong(q, k, v, causal=False, align=None, allowed=None):
    return ar.attention(q, k, v, causal=causal, align="bottom_right", allowed=allowed).o

cases = pytest.mark.attention_cases("causal,causal-top-left,mask-half,scale")

@cases
def test_right(attention_case):
    attention_case.check(right)

@cases
def test_wrong(attention_case):
    attention_case.check(wrong)
"""


@pytest.fixture
def run(pytester):
    def ran(source, *arguments):
        pytester.makepyfile(source)
        return pytester.runpytest_inprocess("-p", "attention_ref_pytest", "-p", "no:cacheprovider", *arguments)

    return ran


def test_exactly_the_wrong_kernel_fails(run):
    result = run(PROJECT, "-rfs")
    result.assert_outcomes(passed=5, failed=1, skipped=2)
    result.stdout.fnmatch_lines(["*test_wrong?causal-top-left-float32?*", "*FAILED*wrong against scaled_dot*"])
    text = result.stdout.str()
    assert "Diagnosis: " in text
    assert "Catches: more keys than queries, aligned at the bottom right instead" in text
    assert "the candidate does not declare scale=" in text


def test_cases_are_chosen_by_k(run):
    run(PROJECT, "-k", "mask-half").assert_outcomes(passed=2, deselected=6)


XFAIL = PROJECT.replace('"causal,causal-top-left,mask-half"', '"causal,causal-top-left,mask-half"').replace(
    'mask-half,scale")', 'mask-half", dtypes=("float32", "float64"), xfail={XFAIL})'
)


def test_an_expected_failure_is_strict(run):
    result = run(XFAIL.replace("{XFAIL}", '{"causal-top-left": "we only know the other corner"}'))
    result.assert_outcomes(passed=8, failed=2, xfailed=2)
    result.stdout.fnmatch_lines(["*[[]XPASS(strict)[]] we only know the other corner"])


def test_an_expected_failure_by_flag(run):
    run(XFAIL.replace("{XFAIL}", '{"flag:Align": "aligned elsewhere"}'), "-k", "wrong").assert_outcomes(
        passed=4, xfailed=2, deselected=6
    )


@pytest.mark.parametrize(
    ("xfail", "sentence"),
    [
        ('{"causal": ""}', "the expected failure 'causal' must have a reason"),
        ('{"causal": None}', "the expected failure 'causal' must have a reason"),
        ('{"cuasal": "no"}', "there is no case 'cuasal'; did you mean 'causal'"),
    ],
)
def test_an_expected_failure_needs_a_case_and_a_reason(run, xfail, sentence):
    result = run(XFAIL.replace("{XFAIL}", xfail))
    assert sentence in result.stdout.str() + result.stderr.str()
    result.assert_outcomes(errors=1)


def test_without_a_marker_it_is_core(run):
    source = "def test_it(attention_case):\n    assert attention_case.why"
    result = run(source)
    assert result.parseoutcomes()["passed"] > 100


def test_loading_it_imports_nothing_heavy():
    heavy = ("numpy", "attention_ref", "torch", "jax", "autograd", "matplotlib", "scipy", "ml_dtypes")
    code = f"import sys, attention_ref_pytest; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
