"""The report: as a page, as JSON that fits its schema, as JUnit XML, as an exception."""

import io
import json
import re
import shlex
import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from json_schema import fits

import attention_ref as ar
from attention_ref.conformance.libraries import Known, Preset
from attention_ref.oracle.cases import long
from attention_ref.oracle.cases.case import Case, Size
from attention_ref.oracle.report import rerun, text
from attention_ref.oracle.report.export import SCHEMA


def right(q, k, v, **options):
    a = ar.attention(q, k, v, **options)
    return a.o, a.lse


def back(do, q, k, v, o, lse, dlse=None, **options):
    grads = ar.attention(q, k, v, **options).backward(do.astype(np.float32), dlse=dlse)
    return {name: x.astype(q.dtype) for name, x in grads.items()}


def wrong(q, k, v, scale=None, causal=False, softcap=None):
    if softcap is not None:
        raise RuntimeError("no \x07 softcap in this kernel, whatever was asked of it, and " + "so on " * 60)
    o, lse = right(q, k, v, scale=scale)
    return (o * (np.nan if causal else 1)).astype(q.dtype), lse.astype(np.float32)


@pytest.fixture(scope="module")
def failed():
    return ar.check(
        wrong, cases="causal,scale,softcap,mask-half,gqa", backward=back, seed=5, dtypes=("float32", "float16")
    )


@pytest.fixture(scope="module")
def passed():
    return ar.check(right, cases="causal,scale")


def test_the_summary_comes_first(failed, passed):
    assert str(passed).startswith(
        f"PASSED  {__name__}:right against scaled_dot, forward only, in float32 (causal,scale,"
    )
    page = " ".join(str(failed).split())
    assert page.startswith(
        f"FAILED {__name__}:wrong against scaled_dot, forward and backward, in float32 and float16 ("
    )
    assert "(causal,scale,softcap,mask-half,gqa, 5 cases in each, seed 5, " in page
    assert str(passed).rstrip().endswith("Forward only: no backward was given (backward=).")


def test_a_gradient_that_was_not_compared_is_not_claimed():
    def silent(do, q, k, v, o, lse, **options):
        return {}

    page = str(ar.check(right, backward=silent, cases="causal"))
    assert "scaled_dot, forward only, in float32" in page
    assert "the backward does not return dq: 1 case (causal)" in page


def test_a_backward_that_always_fails_was_to_be_checked():
    def raising(do, q, k, v, o, lse, causal=False):
        raise ValueError("no")

    assert "forward and backward" in str(ar.check(right, backward=raising, cases="causal"))


def test_the_gradient_through_lse_is_said_to_be_unchecked_where_the_backward_takes_no_dlse():
    def deaf(do, q, k, v, o, lse, causal=False):
        grads = back(do, q, k, v, o, lse, causal=causal)
        return {"q": grads["q"], "k": grads["k"]}

    def deaf_to_all(do, q, k, v, o, lse):
        return back(do, q, k, v, o, lse)

    sentence = "The gradient through lse was not checked: the backward does not declare dlse=."
    report = ar.check(right, backward=deaf, cases="causal")
    assert report.passed
    assert sentence in str(report)
    assert not report.to_dict()["dlse"]
    assert sentence in str(ar.check(right, backward=deaf_to_all, cases="shape-17x17"))
    assert sentence not in str(ar.check(right, backward=back, cases="causal"))
    assert sentence not in str(ar.check(lambda *a, **o: right(*a, **o)[0], backward=deaf, cases="causal"))
    assert sentence not in str(ar.check(right, cases="causal"))


def test_what_is_suspicious_is_to_be_run_in_float64():
    def doubled(q, k, v):
        o, lse = right(q, k, v)
        return o * np.float32(1 + 5e-4), lse

    report = ar.check(doubled, cases="long-259x1031", seed=3)
    assert report.counts()["suspicious"] == 1
    page = str(report)
    assert "In float64 a mistake stays as large as it is, and rounding does not:" in page
    assert "--case long-259x1031 --seed 3 --dtypes float64" in " ".join(page.replace("\\\n", " ").split())
    report = ar.check(doubled, cases="long-259x1031", seed=3, dtypes=["float32", "float64"])
    assert "In float64 a mistake" not in str(report)


def test_every_result_with_a_wrong_dtype_is_named():
    def wide(do, q, k, v, o, lse, causal=False):
        return {name: x.astype(np.float64) for name, x in back(do, q, k, v, o, lse, causal=causal).items()}

    page = str(ar.check(right, backward=wide, cases="causal"))
    for name in ("dq", "dk", "dv"):
        assert f"    {name} has dtype float64, expected float32\n" in page


def test_a_printed_command_has_no_option_parted_from_its_value(failed):
    name = "--command 'python  my kernel.py --with a-rather-long --list of-its-own'"
    run = replace(failed.failures()[0], case="c" * 60)
    report = replace(failed, meta=failed.meta | {"candidate": name, "timeout": 7.5})
    lines = rerun.broken(rerun.words(report, run))
    assert len(lines) > 2
    assert all(line.endswith(" \\") for line in lines[:-1])
    parted = shlex.split(" ".join(line.removesuffix("\\") for line in lines))
    assert parted == shlex.split(rerun.command(report, run))
    for line in lines:
        assert not line.removesuffix(" \\").split()[-1].startswith("--")


def test_a_case_too_large_to_check_whole_is_refused_or_left_out_of_a_group(monkeypatch):
    size = r"^check: shape-131x5 has 42,669,900 pairs of a query and a key, some 12 GiB to check whole; give sample="
    with pytest.raises(ar.OptionError, match=size):
        ar.check(right, cases="causal,shape-131x5", length=521)
    monkeypatch.setattr(long, "PAIRS", 1800)
    report = ar.check(right, cases="flag:Scale")
    assert report.passed
    large = [run for run in report.runs if run.sentence.startswith("has ")]
    assert 0 < len(large) < len(report.runs)
    assert all(run.verdict == "unsupported" for run in large)
    mine = Case("mine", "as large as I like", Size(67, 131, axes=0), {})
    assert ar.check(right, cases=[mine]).counts()["pass"] == 1


def test_a_known_deviation_is_not_the_worst_of_what_passed():
    def leaking(q, k, v, allowed=None):
        return ar.attention(q, k, v, allowed=allowed).alpha @ v

    known = (Known("a leak", ("Poison",), nan_from="poison"),)
    preset = Preset("made.up", "numpy", leaking, known=known, rules={"scaled_dot": {}}, dtypes=("float32",))
    page = str(ar.check(preset=preset, cases="mask-half,poison-nan-mask"))
    assert "1 pass · 1 known" in page
    assert "mask-half" in page.partition("Known deviations")[0].splitlines()[-2]
    assert "inf" not in page
    sampled = ar.check(preset=preset, cases="poison-nan-mask", sample=8)  # held against its deviations only if whole
    assert sampled.counts()["fail"] == 1


def test_what_a_function_refuses_is_told_in_its_own_words():
    def top_left_only(q, k, v, causal=False, align="top_left"):
        raise NotImplementedError("causal is aligned at the top left here")

    page = str(ar.check(top_left_only, backward=back, cases="causal-bottom-right"))
    assert "it raised NotImplementedError: causal is aligned at the top left here" in page
    assert "the forward pass gave nothing" not in page


def test_a_page_is_100_columns_wide(failed):
    lines = str(failed).split("\n")
    assert max(map(len, lines)) <= 100
    assert all(line == line.rstrip() for line in lines)
    assert len(lines) < 110


def test_a_page_tells_all_that_is_known_of_the_worst_element(failed):
    page = str(failed)
    assert "Catches: the diagonal itself" in page
    assert re.search(r"o\[0, 0, 0, 0\] = nan, expected -?\d\.\d+ \(-?0x1\.[0-9a-f]+p[+-]\d+\)", page)
    assert "o is nan, where it should not be, at 1254 of 1254 elements" in page
    page = " ".join(page.replace(" \\\n", " ").split())
    assert f"attention-ref check {__name__}:wrong --case causal --seed 5 --backward {__name__}:back" in page
    assert "--case causal --seed 5 --dtypes float16" in " ".join(page.split())


def test_what_was_not_checked_is_told_once(failed):
    page = str(failed)
    assert page.count("options that the candidate does not declare") == 1
    assert "allowed= (1)" in page


def test_color_is_for_terminals(failed, monkeypatch):
    assert "\x1b" not in str(failed)
    assert "\x1b[31mFAILED\x1b[0m" in failed.text(color=True)
    plain = re.sub("\x1b\\[\\d+m", "", failed.text(color=True))
    assert plain == failed.text()
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31m" in str(failed)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in str(failed)


def test_numbers_are_short_and_exact_where_they_must_be():
    assert text.exactly(0.1) == "0.1 (0x1.999999999999ap-4)"
    assert text.exactly(np.float32(1.5)) == "1.5 (0x1.8p+0)"
    assert text.exactly(-2.0) == "-2 (-0x1p+1)"
    assert text.exactly(0.0) == "0 (0x0.0p+0)"
    assert text.exactly(-np.inf) == "-inf"
    assert float.fromhex(text.exactly(np.pi).partition("(")[2][:-1]) == np.pi
    assert [text.number(x) for x in (0, 1.23456, 1234.5, 1e-7, np.inf)] == ["0", "1.2", "1.2e+03", "1.0e-07", "inf"]


def test_raise_for_failure(failed, passed):
    assert passed.raise_for_failure() is None
    with pytest.raises(ar.CheckFailed, match=f"FAILED  {__name__}:wrong") as caught:
        failed.raise_for_failure()
    assert isinstance(caught.value, AssertionError)


def test_counts_and_failures(failed):
    assert failed.counts() == {
        "pass": 4, "known": 0, "fail": 2, "error": 2, "nondeterministic": 0, "suspicious": 0, "unsupported": 2
    }  # fmt: skip
    assert [run.verdict for run in failed.failures()] == ["error", "error", "fail", "fail"]


def test_a_failure_carries_the_evidence_for_a_diagnosis(failed):
    run = next(run for run in failed.failures() if run.verdict == "fail")
    assert set(run.evidence) == {"case", "inputs", "got", "want", "bounds", "dlse"}
    assert run.evidence["case"].name == run.case
    for part in ("got", "want", "bounds"):
        assert run.evidence[part]["o"].shape == (2, 3, 19, 11)
    assert np.isnan(run.evidence["got"]["o"]).all()
    assert run.evidence["inputs"].options == {"causal": True}


def test_json_fits_its_schema(failed, passed):
    for report in (failed, passed):
        data = json.loads(report.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        assert list(fits(data, schema())) == []
        assert (data["schema"], data["version"]) == ("attention_ref.check", 1)
        assert data["passed"] == report.passed
        assert sum(data["counts"].values()) == len(data["runs"]) == len(report.runs)
    worst = next(c for run in json.loads(failed.to_json())["runs"] for c in run["results"] if c["verdict"] == "fail")
    assert worst["worst"]["got"] == worst["worst"]["got_hex"] == "nan"
    assert float.fromhex(worst["worst"]["want_hex"]) == worst["worst"]["want"]


def test_the_schema_is_strict(passed):
    for spoil in (
        lambda data: data.update(more=1),
        lambda data: data.pop("seed"),
        lambda data: data["runs"][0].update(verdict="fine"),
        lambda data: data["runs"][0]["results"][0]["worst"].update(score=None),
        lambda data: data.update(version=2),
    ):
        data = json.loads(passed.to_json())
        spoil(data)
        assert list(fits(data, schema()))


def schema():
    return json.loads(SCHEMA.read_text())


def test_the_schema_has_the_version_of_the_reports(passed):
    assert schema()["$schema"].startswith("https://json-schema.org/")
    assert schema()["title"] == "{schema} {version}".format(**json.loads(passed.to_json()))


def test_junit(failed):
    root = ElementTree.fromstring(failed.to_junit())
    assert [suite.get("name").split()[-1] for suite in root] == ["float32", "float16"]
    for suite in root:
        counts = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
        assert counts == {"tests": 5, "failures": 1, "errors": 1, "skipped": 1}
        assert len(suite) == 5
    case = root.find(".//testcase[@name='causal']")
    assert case.get("classname") == "scaled_dot.float32"
    assert case.find("failure").get("message").startswith("o is nan, where it should not be")
    assert f"attention-ref check {__name__}:wrong --case causal --seed 5" in case.find("failure").text
    assert root.find(".//testcase[@name='gqa']").find("failure") is None


def test_a_nondeterministic_case_is_a_failure_in_junit_only_if_it_is_one():
    calls = []

    def drifting(q, k, v):
        calls.append(1)
        return right(q, k, v)[0] * np.float32(1 + 2.0**-23 * (len(calls) % 2))

    strict, lenient = (ar.check(drifting, cases="shape-15x15", deterministic=strict) for strict in (True, False))
    assert "<failure" in strict.to_junit()
    assert "<failure" not in lenient.to_junit()
    assert "nondeterministic: o differs" in lenient.to_junit()


def test_a_candidate_without_a_name_is_a_target():
    report = ar.check(lambda q, k, v: q, cases=[Case("mine", "a case of my own, to see it named", Size(5, 7))])
    assert "attention-ref check TARGET --case mine --seed 0" in str(report)


def test_other_rules_are_named_in_the_command():
    assert "--rule cosine" in str(ar.check(lambda q, k, v: q.copy(), "cosine", cases="shape-15x15"))
