"""The pytest plugin: a project's own test suite runs the conformance cases, each as a test of its own.

@pytest.mark.attention_cases("core", dtypes=("float32",), xfail={"flag:Poison": "we add the mask"})
def test_my_attention(attention_case):
    attention_case.check(my_attention)

A module beside the package: pytest loads it in every run, and the package only for tests that ask for a case.
"""

import pytest

MARK = "attention_cases"
FIXTURE = "attention_case"


def pytest_configure(config):
    config.addinivalue_line(
        "markers",
        f"{MARK}(cases='core', rule='scaled_dot', dtypes=('float32',), seed=0, xfail=None): the cases that the fixture "
        f"{FIXTURE} runs through; xfail is a dict of reasons by case, flag:NAME or any other choice of cases",
    )


def pytest_generate_tests(metafunc):
    if FIXTURE in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker(MARK)
        given = chosen(*marker.args, **marker.kwargs) if marker else chosen()
        metafunc.parametrize(FIXTURE, parameters(*given), indirect=True)


def chosen(cases="core", rule="scaled_dot", dtypes=("float32",), seed=0, xfail=None):
    dtypes = (dtypes,) if isinstance(dtypes, str) else tuple(dtypes)
    return cases, rule, dtypes, seed, {} if xfail is None else xfail


def parameters(cases, rule, dtypes, seed, xfail):
    """One parameter for each case in each dtype; those that are expected to fail are marked, strictly."""
    from attention_ref.errors import OptionError
    from attention_ref.oracle.cases.select import select

    try:
        reasons = {}
        for selector, reason in xfail.items():
            if not isinstance(reason, str) or not reason.strip():
                raise pytest.UsageError(f"{MARK}: the expected failure {selector!r} must have a reason")
            reasons |= {case.name: reason for case in select(selector)}
        found = select(cases)
    except OptionError as error:
        raise pytest.UsageError(f"{MARK}: {error}") from None
    for dtype in dtypes:
        for case in found:
            marks = [expected(reasons[case.name])] if case.name in reasons else []
            yield pytest.param((case, rule, dtype, seed), id=f"{case.name}-{dtype}", marks=marks)


def expected(reason):
    return pytest.mark.xfail(strict=True, reason=reason, raises=AssertionError)


class AttentionCase:
    """One conformance case in one dtype."""

    def __init__(self, case, rule, dtype, seed):
        self.case, self.rule, self.dtype, self.seed = case, rule, dtype, seed
        self.name, self.why, self.flags = case.name, case.why, case.flags

    def check(self, candidate=None, **options):
        """`ar.check` on this case: fails with the report as its message, skips where the candidate cannot say it."""
        import attention_ref as ar

        report = ar.check(candidate, cases=[self.case], **self.given() | options)
        if all(run.verdict == "unsupported" for run in report.runs):
            pytest.skip(report.runs[0].sentence)
        if not report.passed:
            report.raise_for_failure()
        return report

    def given(self):
        return {"rule": self.rule, "dtypes": self.dtype, "seed": self.seed}


@pytest.fixture
def attention_case(request):
    """One conformance case; the marker attention_cases says which there are."""
    return AttentionCase(*request.param)
