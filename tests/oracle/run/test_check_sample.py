"""`ar.check(…, sample=64)`: at the sampled rows and keys it sees what the whole check sees, and claims no more."""

import io
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from math import comb

import numpy as np
import pytest
from json_schema import fits

import attention_ref as ar
from attention_ref.cli.main import main
from attention_ref.oracle.bounds import number_formats, sampled
from attention_ref.oracle.cases import long
from attention_ref.oracle.cases.case import Case, Size, build
from attention_ref.oracle.cases.select import select
from attention_ref.oracle.report import sample as sample_report
from attention_ref.oracle.report import text
from attention_ref.oracle.report.export import SCHEMA
from attention_ref.oracle.run import sampling
from attention_ref.oracle.run.runner import Job, Runner
from attention_ref.oracle.run.truth import Truth
from attention_ref.pipeline.rule import find
from attention_ref.pipeline.tiled.problem import Problem

LENGTH, SAMPLE = 1009, 16


def forward(q, k, v, **options):
    a = ar.attention(q, k, v, tile=64, **options)
    return a.o, a.lse


def back(do, q, k, v, o, lse, dlse=None, **options):
    return ar.attention(q, k, v, tile=64, **options).backward(do, dlse=dlse)


def spoiled(function, name, change):
    """The function with one of its results changed in place."""

    def run(*arrays, **options):
        results = function(*arrays, **options)
        results = dict(results) if isinstance(results, dict) else dict(zip(("o", "lse"), results, strict=True))
        results[name] = results[name].copy()
        change(results[name])
        return results

    return run


def checked(candidate=forward, backward=back, **more):
    return ar.check(candidate, backward=backward, **{"sample": SAMPLE, "length": LENGTH, **more})


def found_shape(result):
    return (SAMPLE,) if result == "lse" else (SAMPLE, 64)


def sample_of(**more):
    return checked(backward=None, **more).runs[0].sample


@pytest.mark.parametrize("name", long.CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_and_bounds_are_those_of_the_whole_check(name, dtype, monkeypatch):
    monkeypatch.setattr(sampled, "TILE", 128)
    monkeypatch.setattr(sampled, "PAIRS", 4000)
    fmt, rule = number_formats.find(dtype), find("scaled_dot")
    case = long.resized(long.CASES[name], 257)
    runner = Runner(Job(case, dtype, fmt.model, rule.name, forward, back, seed=5, sample=11))
    some, whole = runner.truth, Truth(rule, build(case, rule, fmt, 5), fmt.model, with_dlse=True)
    with np.errstate(all="ignore"):
        want = whole.forward() | {f"d{n}": x for n, x in whole.backward().items()}
        got = some.forward() | {f"d{n}": x for n, x in some.backward().items()}
        bounds = {result: runner.bound_of(result) for result in got}
        wider = {n if n in ("o", "lse") else f"d{n}": x for n, x in whole.bounds(True).items()}
    for result, x in got.items():
        index = runner.view.keys if result in ("dk", "dv") else runner.view.rows
        at = (..., index) if result == "lse" else (..., index, slice(None))
        right, bound = want[result][at], wider[result][at]
        np.testing.assert_allclose(x, right, rtol=1e-11, atol=1e-12, err_msg=result)
        if result in ("dk", "dv"):
            assert (bounds[result] >= bound * (1 - 1e-12)).all(), result
            assert (bounds[result] <= 300 * bound).all(), result
        else:
            np.testing.assert_allclose(bounds[result], bound, rtol=0.02, err_msg=result)


def test_nothing_in_float64_is_held_while_the_candidate_runs_and_every_call_gets_the_same_arrays():
    calls = []

    def noted(function, runner):
        def run(*arrays, **options):
            truth = vars(runner).get("truth")
            calls.append((None if truth is None else vars(truth).copy(), arrays))
            return function(*arrays, **options)

        return run

    case = long.resized(long.CASES["long-documents"], 131)
    job = Job(case, "float32", "f32", "scaled_dot", forward, back, sample=11)
    runner = Runner(job)
    runner.job = replace(job, candidate=noted(forward, runner), backward=noted(back, runner))
    assert runner.run().verdict == "pass"
    (before, qkv), (held, (do, *again, _, _)) = calls
    assert before is None
    assert held["options"]
    assert {name for name, x in held.items() if isinstance(x, (dict, tuple, np.ndarray, Problem))} <= {
        "options",
        "rows",
        "keys",
        "bounds_by_kind",
    }
    bounds = [bound for by_name in held["bounds_by_kind"].values() for bound in by_name.values()]
    assert {bound.shape[0] for bound in bounds} == {11}
    for x, y, first in zip((do, *qkv), (do, *again), (runner.inputs.do, *runner.inputs.arrays.values()), strict=True):
        np.testing.assert_array_equal(x, y)
        np.testing.assert_array_equal(x, first)
        assert not np.may_share_memory(x, first)


@pytest.mark.parametrize("wrong", [False, True])
def test_the_worst_element_is_at_its_place_in_the_whole(wrong):
    """Whether it breaks its bound or not."""
    given = {}

    def attend(*arrays, **options):
        o, lse = forward(*arrays, **options)
        given.update(o=o + wrong, lse=lse)
        return given["o"], lse

    def attend_back(*arrays, **options):
        grads = back(*arrays, **options)
        given.update({f"d{name}": grads[name] + wrong for name in "qkv"})
        return {name: given[f"d{name}"] for name in "qkv"}

    (run,) = checked(attend, attend_back).runs
    assert {c.result for c in run.results} == given.keys()
    for found in run.results:
        assert (found.verdict == "fail") == (wrong and found.result != "lse")
        assert given[found.result][found.worst.index] == found.worst.got, found.result


@pytest.mark.parametrize("name", ["mask-blocks", "k-lengths", "long-documents", "causal"])
def test_options_lie_in_memory_as_they_are_drawn(name):
    case = select(name)[0]
    case = long.resized(case, 131)
    runner = Runner(Job(case, "float32", "f32", "scaled_dot", forward, None, sample=11))
    drawn, again = build(case, find("scaled_dot"), number_formats.find("float32")), runner.view.new_inputs()
    for option, x in (drawn.options | drawn.arrays).items():
        if isinstance(x, np.ndarray):
            y = (again.options | again.arrays)[option]
            assert (x.flags.c_contiguous, x.tolist()) == (y.flags.c_contiguous, y.tolist()), option


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_a_correct_candidate_passes_in_every_long_case(dtype):
    def narrow(q, k, v, **options):
        o, lse = forward(q, k, v, **options)
        return o.astype(q.dtype), lse.astype(np.float32) if q.dtype == np.float16 else lse

    def narrow_back(do, q, *arrays, **options):
        return {name: x.astype(q.dtype) for name, x in back(do, q, *arrays, **options).items()}

    report = checked(narrow, narrow_back, cases="long", dtypes=dtype, length=131)
    assert report.passed, str(report)
    assert {c.result for run in report.runs for c in run.results} == {"o", "lse", "dq", "dk", "dv"}
    assert {c.verdict for run in report.runs for c in run.results} == {"pass"}


@pytest.mark.parametrize("rule", ["general", "additive", "cosine"])
def test_what_has_no_bound_at_keys_is_said(rule):
    def by_rule(q, k, v, **options):
        return ar.attention(q, k, v, rule, **options).o

    def by_rule_back(do, q, k, v, o, lse, dlse=None, **options):
        return ar.attention(q, k, v, rule, **options).backward(do, dlse=dlse)

    report = checked(by_rule, by_rule_back, rule=rule, length=131)
    verdicts = {c.result: c.verdict for c in report.runs[0].results}
    assert verdicts["o"] == verdicts["dq"] == "pass"
    assert verdicts["dk"] == ("pass" if rule == "general" else "unsupported")
    assert ("a sample has no bound for dk and dv with this score: 1" in str(report)) == (rule != "general")
    assert ("is a sum over all pairs, which a sample does not give" in str(report)) == (rule != "cosine")


@pytest.mark.parametrize("result", ["o", "lse", "dq", "dk", "dv"])
def test_a_wrong_row_or_key_is_caught_inside_the_sample_and_not_claimed_outside(result):
    facts = checked().runs[0].sample
    index = facts["keys"] if result in ("dk", "dv") else facts["rows"]
    outside = next(n for n in range(100, LENGTH) if n not in index)
    for place, caught in ((index[7], True), (outside, False)):

        def change(x, place=place):
            x[place] += 1 + np.abs(x[place])

        name = result.removeprefix("d")
        if result in ("o", "lse"):
            report = checked(spoiled(forward, name, change))
        else:
            report = checked(backward=spoiled(back, name, change))
        wrong = [c for c in report.runs[0].results if c.verdict == "fail"]
        assert report.passed != caught
        if caught and result in ("dq", "dk", "dv", "lse"):
            assert [c.result for c in wrong] == [result]
        if caught:
            found = next(c for c in wrong if c.result == result)
            assert found.worst.index[0] == place
            axis = "key" if result in ("dk", "dv") else "row"
            assert found.where == f"at 1 of {SAMPLE} sampled {axis}s: {place}"
            evidence = report.failures()[0].evidence
            assert evidence["inputs"] is None
            assert evidence["got"][result].shape == evidence["want"][result].shape == found_shape(result)
            assert f"{result} is wrong {found.where}" in report.diagnosis.sentence
    assert "All other rows and keys were looked at for shape, dtype and NaN only" in str(report)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_key_dropped_in_one_block_of_rows_is_caught_where_the_block_is_sampled(dtype):
    facts = sample_of(dtypes=dtype)
    row = facts["rows"][9]
    block = row // 64
    unseen = next(b for b in range(LENGTH // 64) if b not in {r // 64 for r in facts["rows"]})

    def dropping(block, key):
        def run(q, k, v, causal=False):
            allowed = np.tri(len(q), len(k), dtype=bool)
            allowed[64 * block : 64 * block + 64, key] = False
            return ar.attention(q, k, v, allowed=allowed).o

        return run

    key = row // 8 * 8 if dtype == "float32" else 3  # in float32 a key that holds some of the row's weight
    assert not checked(dropping(block, key), False, dtypes=dtype).passed
    report = checked(dropping(unseen, 64 * unseen), False, dtypes=dtype)
    assert report.passed
    missed = sampling.one_key_missed(report.runs[0].sample)
    assert f"is missed with probability {sample_report.chance(missed)}" in " ".join(str(report).split())


def test_a_mistake_has_its_name_in_the_run_that_the_report_asks_for():
    def ignorant(do, q, k, v, o, lse, dlse=None, **options):
        return back(do, q, k, v, o, lse, **options)

    report = checked(backward=ignorant)
    page = " ".join(str(report).replace("\\\n", " ").split())
    case = "attention-ref check test_check_sample:forward --case long-causal --seed 0"
    assert f"at a length at which its mistake may have a name {case} --length 521 and if that passes" in page
    assert f"to show it {case} --sample {SAMPLE} --length {LENGTH} float32" in page
    assert "to show it" not in str(checked(backward=ignorant, length=300))
    whole = ar.check(forward, backward=ignorant, cases="long-causal", length=521)
    assert "with the cotangent of lse ignored" in str(whole.diagnosis)


def test_the_page_says_only_what_was_compared():
    page = " ".join(str(checked(backward=None)).split())
    assert f"Compared: o and lse at {SAMPLE} of {LENGTH:,} rows (0, " in page
    assert "All other rows and keys" in page
    page = " ".join(str(checked(length=1)).split())
    assert "Compared: o, lse and dq at the only row; dk and dv at the only key." in page
    assert not any(words in page for words in ("All other rows", "probability", "hold so much"))
    wide = checked(lambda *a, **o: [x.astype("float64") for x in forward(*a, **o)], None)
    assert "Compared: nothing." in str(wide)
    assert "hold so much" not in str(wide)
    with pytest.raises(ar.OptionError, match="a sample is not drawn; run the case whole"):
        wide.figure()


def test_the_share_of_keys_that_would_show_is_what_leaving_them_out_does():
    case, rule = long.resized(long.CASES["long-causal"], 67), find("scaled_dot")
    runner = Runner(Job(case, "float32", "f32", rule.name, forward, None, sample=9))
    with np.errstate(all="ignore"):
        bounds = runner.truth.bounds()
    arrays, shows, pairs = runner.truth.problem.given, 0, 0
    for n, row in enumerate(runner.view.rows):
        for key in range(row + 1):
            allowed = np.arange(67) <= row
            whole = ar.attention(arrays["q"][[row]], arrays["k"], arrays["v"], allowed=allowed[None]).o
            allowed[key] = False
            without = ar.attention(arrays["q"][[row]], arrays["k"], arrays["v"], allowed=allowed[None]).o
            pairs += 1
            shows += bool((np.abs(whole - without) > bounds["o"][n]).any())
    assert 0 < shows < pairs
    assert runner.truth.detectable_key_share == pytest.approx(shows / pairs, abs=2 / pairs)


def test_nan_is_seen_wherever_it_is():
    facts = sample_of()
    outside = next(n for n in range(100, LENGTH) if n not in facts["rows"])

    def change(x):
        x[outside] = np.nan

    report = checked(spoiled(forward, "o", change))
    sentence = f"o is nan, where it should not be, first at row {outside}, in 1 row"
    assert report.runs[0].sentence == sentence
    assert {c.result: c.verdict for c in report.runs[0].results} == {
        "o": "fail", "lse": "pass", "dq": "pass", "dk": "pass", "dv": "pass"
    }  # fmt: skip
    assert f"Diagnosis: {sentence} (long-causal, float32) Next" in " ".join(str(report).split())


def test_rows_and_keys_with_nan_are_counted_once_for_all_heads():
    def change(x):
        x[:, [5, 9]] = np.nan

    report = checked(backward=spoiled(back, "v", change), cases="long-mqa")
    assert report.runs[0].sentence == "dv is nan, where it should not be, first at key 5, in 2 keys"
    report = checked(spoiled(forward, "lse", change), cases="long-mqa")
    assert report.runs[0].sentence == "lse is nan, where it should not be, first at row 5, in 2 rows"


@pytest.mark.parametrize("result", ["o", "dk"])
def test_a_wrong_shape_of_the_whole_is_a_failure_of_that_result(result):
    def longer(function):
        def run(*arrays, **options):
            results = function(*arrays, **options)
            results = dict(results) if isinstance(results, dict) else {"o": results[0]}
            name = result.removeprefix("d")
            return results | {name: np.concatenate([results[name], results[name][:1]])}

        return run

    candidates = (longer(forward), back) if result == "o" else (forward, longer(back))
    report = checked(*candidates)
    sentence = f"{result} has shape ({LENGTH + 1}, 64), expected ({LENGTH}, 64)"
    verdicts = [c.verdict for c in report.runs[0].results if c.result == result]
    assert verdicts == ["fail"]
    assert report.runs[0].sentence == sentence
    assert sentence in report.diagnosis.sentence


@pytest.mark.parametrize("option", [{"rule": "additive"}, {"cases": "sink", "length": None}], ids=str)
def test_nan_beside_a_sample_is_a_failure_where_there_is_no_bound_too(option):
    def by_rule(q, k, v, **options):
        return ar.attention(q, k, v, option.get("rule", "scaled_dot"), **options).o

    def by_rule_back(do, q, k, v, o, lse, dlse=None, **options):
        dk = ar.attention(q, k, v, option.get("rule", "scaled_dot"), **options).backward(do)["k"]
        dk[..., 7, :] = np.nan
        return {"k": dk}

    report = checked(by_rule, by_rule_back, **{"length": 131, **option})
    assert "dk is nan, where it should not be, first at key 7, in 1 key" in report.diagnosis.sentence


def test_a_result_without_a_meaning_is_not_looked_at():
    def odd(q, k, v, **options):
        return ar.attention(q, k, v, **options).o, np.full(q.shape[:-1], np.nan, q.dtype)

    for sample in (None, 4):
        report = ar.check(odd, cases="normalize-sigmoid", sample=sample)
        assert report.passed, report
        assert "lse has no meaning under this normalizer" in str(report)


@pytest.mark.parametrize(
    "change", [lambda o: o.astype(object), lambda o: np.where(o == o[0, 3], np.float32(np.inf), o)]
)
def test_odd_numbers_fail_a_sample_without_a_warning(change):
    report = checked(lambda *a, **o: change(forward(*a, **o)[0]), None)
    assert report.counts()["fail"] == 1


def test_what_fails_in_one_dtype_is_not_said_to_be_a_matter_of_flags():
    def wide(q, k, v, **options):
        return forward(q, k, v, **options)[0].astype("float64")

    report = checked(wide, None, cases="long-causal,long-full", dtypes=("float32", "float64"))
    assert report.diagnosis.sentence.count("o comes back as float64 for float32 inputs in 2 cases") == 1
    assert "flag" not in report.diagnosis.sentence
    assert not any(words in report.diagnosis.sentence for words in ("has dtype", "times"))

    def off(q, k, v, **options):
        o = forward(q, k, v, **options)[0]
        return o if q.dtype == np.float64 else o + 1

    report = checked(off, None, cases="long-causal,long-full", dtypes=("float32", "float64"))
    parts = report.diagnosis.parts
    assert [part.partition(" is wrong ")[0] for part in parts] == ["o", "o"]
    assert parts[0].endswith("(long-causal, float32)")
    assert "flag" not in report.diagnosis.sentence


def test_a_sample_that_passes_but_tells_little_asks_for_one_in_float64():
    said = "In float64 nearly every key shows"
    page = str(checked(backward=None))
    assert f"{said} that is left out, or taken too much:\n    attention-ref check" in page
    assert "--dtypes float64" in page
    assert said not in str(checked(backward=None, dtypes="float64"))
    assert said not in str(checked(spoiled(forward, "o", lambda x: x.fill(0)), None))


def test_of_many_samples_the_page_has_the_first():
    report = checked(backward=None, cases="flag:Causal,-flag:Poison", length=None, sample=3)
    page = str(report)
    shown = sum(f"{run.case} · float32: " in page for run in report.runs if run.sample)
    rest = sum(run.sample is not None for run in report.runs) - shown
    assert shown == text.SHOWN
    assert f"and {rest} more, each at rows and keys of its own" in page


def test_the_sample_is_spread_over_the_length_and_holds_both_ends_and_borders():
    for length, count in ((131_072, 64), (1009, 16), (100, 64), (65, 64), (7, 9), (5, 1)):
        for seed in range(5):
            found = sampling.chosen(length, count, np.random.default_rng(seed))
            assert len(set(found.tolist())) == min(length, count)
            assert (np.diff(found) > 0).all()
            assert found[0] == 0
            assert found[-1] == length - 1 or count == 1
    found = sampling.chosen(131_072, 64, np.random.default_rng(0))
    assert np.histogram(found, 8, (0, 131_072))[0].tolist() == pytest.approx([8] * 8, abs=1)
    assert min((found % 64 == 0).sum(), (found % 64 == 63).sum()) >= 16


def test_probabilities_are_hypergeometric():
    assert sampling.missed(1009, 16, 10) == pytest.approx(comb(999, 16) / comb(1009, 16))
    assert sampling.missed(131_072, 64, 0) == 1
    assert sampling.missed(10, 5, 6) == 0
    assert sampling.block_missed(np.array([0, 63, 64, 640]), 1280) == pytest.approx(1 - 3 / 20)
    assert [sample_report.chance(p) for p in (0, 1, 0.25, 0.9999, 1e-7)] == [
        "0",
        "1",
        "0.250",
        "1\xa0-\xa01.0e-04",
        "1.0e-07",
    ]


def test_a_report_for_machines_has_the_sample():
    data = json.loads(checked(sample=np.int64(SAMPLE), length=np.int64(LENGTH), seed=np.int64(0)).to_json())
    assert list(fits(data, json.loads(SCHEMA.read_text()))) == []
    assert (data["sample"], data["length"], len(data["runs"][0]["sample"]["rows"])) == (SAMPLE, LENGTH, SAMPLE)


def test_progress_is_shown_on_a_terminal_that_waits(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sampled, "PAIRS", 4000)
    checked(backward=None)
    assert terminal.getvalue() == ""
    monkeypatch.setattr("attention_ref.op.progress.PATIENCE", 0.0)
    monkeypatch.setattr("attention_ref.op.progress.PAUSE", 0.0)
    checked(backward=None)
    assert f"\r{'█' * 16}{'·' * 16} 2/4 attention" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_an_interrupt_ends_the_check_and_leaves_no_thread():
    def interrupted(q, k, v, causal=False):
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        checked(interrupted, None)
    assert threading.active_count() == before


def test_the_candidate_runs_once_on_the_whole_input():
    shapes = []

    def counted(q, k, v, causal=False):
        shapes.append(q.shape)
        return forward(q, k, v, causal=causal)

    assert checked(counted, None).passed
    assert shapes == [(LENGTH, 64)]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"sample": 0}, r"^check: sample= is a whole number from 1 on, or None; got 0$"),
        ({"length": 2.5}, r"^check: length= is a whole number from 1 on, or None; got 2.5$"),
        ({"sample": None, "cases": "long-causal", "length": None}, r"has 17,179,869,184 pairs .* GiB .* give sample="),
        ({"sample": None, "cases": "long-causal,causal", "length": 4500}, r"long-causal has 20,250,000 pairs"),
        ({"cases": []}, r"^check: cases= leaves no case to run$"),
    ],
    ids=str,
)
def test_what_cannot_be_sampled_is_refused(more, message):
    with pytest.raises(ar.OptionError, match=message):
        checked(**more)


def test_a_normalizer_that_needs_whole_rows_is_not_supported():
    report = checked(rule="scaled_dot", cases="normalize-sigmoid,mask-half", length=None)
    assert report.passed
    case = Case("sparse", "no tiles", Size(9, 9), {"normalize": "sparsemax"})
    report = checked(cases=[case], length=None)
    assert report.counts()["unsupported"] == 1
    assert "sparsemax needs every score of a row at once and cannot be tiled" in str(report)


def test_the_command_takes_a_sample(capsys, tmp_path):
    kernel = tmp_path / "long_kernel.py"
    kernel.write_text(
        "import attention_ref\n\ndef o(q, k, v, **options):\n    return attention_ref.attention(q, k, v, **options).o"
    )
    assert main(["check", f"{kernel}:o", "--sample", "16", "--length", "257"]) == 0
    page = " ".join(capsys.readouterr().out.replace(" \\\n", " ").split())
    assert "(long-causal, 1 case, seed 0" in page
    assert "What the sample shows, and what it does not" in page


MEASURED = """
import resource, sys
import attention_ref as ar

def softmax(q, k, v, causal=False):
    return ar.attention(q, k, v, causal=causal, tile="auto").o

report = ar.check(softmax, sample=64)
assert report.passed, report
print(report)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_131072_tokens_take_less_than_a_gibibyte():
    """Time depends on who else is on the machine: README has it, with the candidate's own part of it."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, env=environment, check=True)
    assert "64 of 131,072 rows" in done.stdout
    assert int(done.stdout.split()[-1]) < 2**20


@pytest.mark.parametrize("index", [[], [3], [2, 3, 4], [2, 4, 3, 5], [2, 2, 4], [0, 2]], ids=str)
def test_a_run_of_keys_is_cut_as_a_slice_and_nothing_else_is(index):
    x = np.arange(10)
    found = sampled.as_slice(np.array(index, dtype=int))
    np.testing.assert_array_equal(x[found], x[np.array(index, dtype=int)])
    assert isinstance(found, slice) == (index in ([3], [2, 3, 4]))
