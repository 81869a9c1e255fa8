"""Candidates that misbehave: each gets a verdict and a sentence, and the other cases still run."""

import re
import threading
import time

import numpy as np
import pytest

import attention_ref as ar
from attention_ref.oracle.bounds import number_formats
from attention_ref.oracle.cases import case
from attention_ref.oracle.cases.suite import CASES

CASE = "shape-15x15"


def right(q, k, v, **options):
    a = ar.attention(q, k, v, **options)
    return a.o, a.lse


def back(do, q, k, v, o, lse, **options):
    dlse = options.pop("dlse", None)
    return ar.attention(q, k, v, **options).backward(do, dlse=dlse)


def one(candidate, case=CASE, **options):
    return ar.check(candidate, cases=case, **options).runs[0]


def raises(q, k, v):
    raise RuntimeError("an illegal memory access\nwas encountered")


def leaves(q, k, v):
    raise SystemExit(3)


def recurses(q, k, v):
    return recurses(q, k, v)


def writes(q, k, v):
    o = right(q, k, v)[0]
    k *= 2
    return o


@pytest.mark.parametrize(
    ("candidate", "verdict", "sentence"),
    [
        (
            raises,
            "error",
            r"it raised RuntimeError: an illegal memory access was enc\w+ \(test_check_trouble.py:\d+",
        ),
        (leaves, "error", "it raised SystemExit: 3"),
        (recurses, "error", "it raised RecursionError"),
        (writes, "fail", "it writes into its input k"),
        (lambda q, k, v: None, "error", r"it returned None; return o, \(o, lse\) or a dict with 'o'"),
        (lambda q, k, v: right(q, k, v)[0].tolist(), "error", "its result o is a list, not a NumPy array"),
        (lambda q, k, v: "o", "error", "it returned a str; return o"),
        (lambda q, k, v: (1.0, 2.0), "error", "its result o is a float, not a NumPy array"),
        (lambda q, k, v: {"out": q}, "error", "it returned a dict without 'o'"),
        (lambda q, k, v: v, "fail", "its result o is a view of its input v"),
        (lambda q, k, v: v[..., ::-1, :], "fail", "its result o is a view of its input v"),
        (lambda q, k, v: right(q, k, v)[0] * np.nan, "fail", "o is nan, where it should not be, at 990 of 990"),
        (lambda q, k, v: right(q, k, v)[0].astype(float), "fail", "o has dtype float64, expected float32"),
        (lambda q, k, v: right(q, k, v)[0].astype(object), "fail", "o has dtype object, expected float32"),
        (lambda q, k, v: right(q, k, v)[0][..., None], "fail", r"o has shape \(2, 3, 15, 11, 1\), expected"),
        (lambda q, k, v: np.zeros((0,)), "fail", r"o has shape \(0,\), expected"),
        (lambda q, k: q, "error", "it raised TypeError"),
        (lambda q, k, v, causal: q, "error", "it raised TypeError: .* give every option a default"),
    ],
)
def test_a_candidate_that_misbehaves(candidate, verdict, sentence):
    report = ar.check(candidate, cases=[CASE, "shape-16x16"])
    assert not report.passed
    assert [run.verdict for run in report.runs] == [verdict] * 2
    assert re.match(sentence, report.runs[0].sentence), report.runs[0].sentence
    assert report.runs[0].sentence.split()[0] in str(report)
    assert "Traceback" not in str(report)


def test_writing_into_a_read_only_array_is_an_error_with_a_sentence():
    assert one(writes, "layout-read-only").sentence.startswith("it raised ValueError")


def test_writing_into_an_option_is_seen():
    def careless(q, k, v, bias=None):
        a = ar.attention(q, k, v, bias=bias)
        bias += 1
        return a.o

    assert one(careless, "bias").sentence == "it writes into its input bias"


def hangs_in_python(q, k, v):
    while q.shape[-2] == 15:
        pass
    return right(q, k, v)


def hangs_in_c(q, k, v):
    if q.shape[-2] == 15:
        time.sleep(2)
    return right(q, k, v)


@pytest.mark.parametrize("candidate", [hangs_in_python, hangs_in_c])
def test_a_candidate_that_hangs_is_left_behind(candidate):
    start = time.perf_counter()
    report = ar.check(candidate, cases=[CASE, "shape-16x16"], timeout=0.3)
    assert time.perf_counter() - start < 1.5
    assert [run.verdict for run in report.runs] == ["error", "pass"]
    assert report.runs[0].sentence == "it had not returned after 0.3 s (timeout=)"


def test_a_python_loop_that_hangs_is_stopped():
    before = threading.active_count()
    one(hangs_in_python, timeout=0.2)
    for _ in range(100):
        if threading.active_count() <= before:
            break
        time.sleep(0.02)
    assert threading.active_count() <= before


def test_a_timeout_that_is_kept_changes_nothing():
    assert one(right, timeout=30, backward=back).verdict == "pass"


class Drifting:
    """A little different at every call."""

    def __init__(self, by):
        self.calls, self.by = 0, by

    def __call__(self, q, k, v):
        self.calls += 1
        return right(q, k, v)[0] * np.float32(1 + self.by * (self.calls % 2))


def test_other_bits_in_the_second_run_are_nondeterministic():
    report = ar.check(Drifting(2.0**-23), cases=CASE)
    assert report.runs[0].verdict == "nondeterministic"
    assert report.runs[0].sentence == "o differs between two runs on the same inputs"
    assert not report.passed
    lenient = ar.check(Drifting(2.0**-23), cases=CASE, deterministic=False)
    assert lenient.runs[0].verdict == "nondeterministic"
    assert lenient.passed


def test_a_second_run_that_is_wrong_fails():
    drifting = Drifting(0.01)
    drifting.calls = 1
    run = one(drifting, deterministic=False)
    assert run.verdict == "fail"
    assert run.sentence.startswith("in the second of two runs, o is off by")


def test_a_result_missing_from_the_second_run_is_nondeterministic():
    calls = []

    def forgetful(q, k, v):
        calls.append(1)
        o, lse = right(q, k, v)
        return {"o": o, "lse": lse} if len(calls) % 2 else {"o": o}

    assert one(forgetful).sentence == "the second run returns no lse"


def test_a_buffer_used_twice_does_not_hide_a_difference():
    buffer = {}
    drifting = Drifting(2.0**-23)

    def reusing(q, k, v):
        o = drifting(q, k, v)
        buffer.setdefault("o", np.empty_like(o))[...] = o
        return buffer["o"]

    assert one(reusing).verdict == "nondeterministic"


def test_an_option_that_is_not_declared_makes_a_case_unsupported():
    report = ar.check(lambda q, k, v, scale=None: right(q, k, v, scale=scale), cases="causal,scale,softcap-mask")
    assert [run.verdict for run in report.runs] == ["unsupported", "pass", "unsupported"]
    assert report.runs[0].sentence == "the candidate does not declare causal="
    assert report.runs[2].sentence == "the candidate does not declare softcap= or allowed="
    assert report.passed
    assert "causal= (1)" in str(report)


def test_nothing_checked_is_not_passed():
    report = ar.check(lambda q, k, v: right(q, k, v)[0], cases="flag:Causal")
    assert {run.verdict for run in report.runs} == {"unsupported"}
    assert not report.passed
    assert "nothing could be checked" in str(report)


def test_not_implemented_is_unsupported():
    def no_groups(q, k, v):
        if k.shape[-3] != q.shape[-3]:
            raise NotImplementedError("no grouped heads")
        return right(q, k, v)

    report = ar.check(no_groups, cases="gqa,shape-15x15")
    assert [run.verdict for run in report.runs] == ["unsupported", "pass"]
    assert report.passed
    assert "no grouped heads" in str(report)


def test_only_the_options_that_a_case_uses_arrive_and_masks_are_dense():
    seen = {}

    def watching(q, k, v, **options):
        seen.update(options)
        return right(q, k, v, **options)

    one(watching, "causal")
    assert seen == {"causal": True}
    seen.clear()
    one(watching, "mask-half")
    assert list(seen) == ["allowed"]
    assert type(seen["allowed"]) is np.ndarray
    assert seen["allowed"].dtype == bool


def test_a_result_without_a_meaning_is_unsupported():
    def more(q, k, v):
        return {"o": right(q, k, v)[0], "logits": q.copy(), "lse": None}

    found = one(more)
    assert found.verdict == "pass"
    assert [(c.result, c.verdict) for c in found.results] == [("o", "pass"), ("logits", "unsupported")]


def test_a_stage_that_is_wrong_is_named():
    def unscaled(q, k, v):
        a = ar.attention(q, k, v, scale=1.0)
        return {"o": a.o, "score": a.tape["score"], "scaled": a.tape["scaled"]}

    found = one(unscaled)
    assert found.stage.startswith("stage 'scaled' is the first that is wrong")
    assert found.stage in " ".join(str(ar.check(unscaled, cases=CASE)).split())


# backward


def test_backward_gets_the_candidates_own_o_and_lse():
    seen = {}

    def own(q, k, v):
        o, lse = right(q, k, v)
        return o * np.float32(1 + 2.0**-23), lse

    def watching(do, q, k, v, o, lse):
        seen.update(o=o, lse=lse)
        return back(do, q, k, v, o, lse)

    inputs = case.build(CASES[CASE], ar.rules["scaled_dot"], number_formats.find("float32"))
    ar.check(own, cases=CASE, backward=watching)
    o, lse = own(**inputs.arrays)
    assert np.array_equal(seen["o"], o)
    assert np.array_equal(seen["lse"], lse)
    ar.check(lambda q, k, v: right(q, k, v)[0], cases=CASE, backward=watching)
    assert seen["lse"] is None


def test_dlse_arrives_if_it_is_declared():
    def without(do, q, k, v, o, lse):
        return back(do, q, k, v, o, lse)

    def with_dlse(do, q, k, v, o, lse, dlse):
        assert dlse.shape == do.shape[:-1]
        return back(do, q, k, v, o, lse, dlse=dlse)

    def ignoring(do, q, k, v, o, lse, dlse=None):
        return back(do, q, k, v, o, lse)

    assert one(right, backward=without).verdict == "pass"
    assert one(right, backward=with_dlse).verdict == "pass"
    found = one(right, backward=ignoring)
    assert {c.result: c.verdict for c in found.results} == {
        "o": "pass", "lse": "pass", "dq": "fail", "dk": "fail", "dv": "pass"
    }  # fmt: skip


def test_a_gradient_that_is_not_returned_is_unsupported():
    def only_q(do, q, k, v, o, lse):
        return {"q": back(do, q, k, v, o, lse)["q"], "k": None, "w": q.copy()}

    found = one(right, backward=only_q)
    verdicts = {c.result: c.verdict for c in found.results}
    assert verdicts == {"o": "pass", "lse": "pass", "dq": "pass"} | dict.fromkeys(("dk", "dv", "dw"), "unsupported")
    assert found.verdict == "pass"


def test_an_option_that_the_backward_does_not_declare_leaves_the_forward_checked():
    def plain(do, q, k, v, o, lse):
        return back(do, q, k, v, o, lse)

    found = one(right, "causal", backward=plain)
    assert [c.verdict for c in found.results] == ["pass", "pass", *["unsupported"] * 3]
    assert found.results[-1].sentence == "the backward does not declare causal="


@pytest.mark.parametrize(
    ("backward", "verdict", "sentence"),
    [
        (lambda do, q, k, v, o, lse: (q, k, v), "error", "the backward returned a tuple; return a dict such as"),
        (lambda do, q, k, v, o, lse: {"q": [1]}, "error", "the backward's result q is a list, not a NumPy array"),
        (lambda do, q, k, v, o, lse: {"q": do}, "fail", "the backward's result q is a view of its input do"),
        (lambda do, q, k, v, o, lse: {"q": q * np.nan}, "fail", "dq is nan, where it should not be"),
        (lambda do, q, k, v, o, lse: 1 / 0, "error", "the backward raised ZeroDivisionError: division by zero"),
        (lambda do, q, k, v, o, lse: {"q": do.__imul__(0)}, "fail", "the backward writes into its input do"),
    ],
)
def test_a_backward_that_misbehaves(backward, verdict, sentence):
    found = one(right, backward=backward)
    assert found.verdict == verdict
    assert found.sentence.startswith(sentence)
    assert [c.verdict for c in found.results[:2]] == ["pass", "pass"]


def test_a_backward_that_is_not_the_same_twice_is_nondeterministic():
    calls = []

    def drifting(do, q, k, v, o, lse):
        calls.append(1)
        return {"v": back(do, q, k, v, o, lse)["v"] * np.float32(1 + 2.0**-23 * (len(calls) % 2))}

    assert one(right, backward=drifting).sentence == "dv differs between two runs on the same inputs"


def test_without_a_forward_there_is_no_backward():
    found = one(raises, backward=back)
    assert [c.verdict for c in found.results] == ["unsupported"] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidate": 3}, "candidate must be a function; got int"),
        ({"candidate": None}, "candidate must be a function; got NoneType"),
        ({"backward": "yes"}, "backward must be a function; got str"),
        ({"backend": "nunpy"}, "there is no backend 'nunpy'; did you mean 'numpy'"),
        ({"preset": "torch"}, "there is no preset 'torch'"),
        ({"timeout": 0}, "timeout= is a number of seconds above 0"),
        ({"dtypes": "float23"}, "there is no dtype 'float23' to test in; did you mean 'float32'"),
        ({"models": {"float32": "bf17"}}, "there is no precision model 'bf17'"),
        ({"rule": "scaled"}, "there is no rule 'scaled'"),
    ],
)
def test_what_cannot_be_checked_is_refused(options, message):
    with pytest.raises(ar.OptionError, match=message):
        ar.check(**({"candidate": right} | options))


def test_numpy_is_a_backend():
    assert ar.check(right, backend="numpy", cases=CASE).passed
