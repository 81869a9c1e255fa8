"""Presets: what a library is called with, what it cannot say, and what it is known for."""

import json

import numpy as np
import pytest

import attention_ref as ar
from attention_ref import backend
from attention_ref.cli.main import main
from attention_ref.conformance import libraries
from attention_ref.conformance.libraries import Known, Preset
from attention_ref.conformance.libraries.preset import equal_widths, four_axes, refuse
from attention_ref.conformance.matrix import CASES as MATRIX
from attention_ref.oracle.bounds import number_formats
from attention_ref.oracle.cases.case import Case, Size, build
from attention_ref.oracle.cases.suite import CASES
from attention_ref.oracle.run.truth import allowed_pairs
from attention_ref.pipeline.rule import find


def call(q, k, v, *, allowed=None, scale=None):
    """A library that gives the mean of all values where nothing is allowed, and knows no negative scale."""
    if isinstance(scale, float) and scale < 0:
        refuse("it has no negative scale")
    return ar.attention(q, k, v, allowed=allowed, scale=scale, empty_row="uniform").o


DEAD = ("DeadRow",)
MEAN = Known("a dead row is uniform", DEAD, convention={"empty_row": "uniform"})
GONE = Known("a scale is ignored", options=("scale",), convention={"scale": 1.0})


def preset(*known, **more):
    return Preset("made.up", "numpy", call, known=known, **more)


def test_a_deviation_that_is_known_does_not_fail():
    report = ar.check(preset=preset(MEAN), cases="mask-dead-rows,mask-half,scale-negative")
    assert [run.verdict for run in report.runs] == ["known", "pass", "unsupported"]
    assert report.passed
    page = str(report)
    assert "Known deviations\n  a dead row is uniform: 1 case (mask-dead-rows)" in page
    assert "it has no negative scale: 1 case (scale-negative)" in page
    assert not ar.check(preset=preset(), cases="mask-dead-rows").passed


@pytest.mark.parametrize(
    "other",
    [
        Known("another case", ("Bias",), convention={"empty_row": "uniform"}),
        Known("another option", DEAD, ("bias",), convention={"empty_row": "uniform"}),
        Known("another result", DEAD, results=("lse",), convention={"empty_row": "uniform"}),
        Known("another dtype", DEAD, dtypes=("float64",), convention={"empty_row": "uniform"}),
        Known("another convention", DEAD, convention={"empty_row": "nan"}),
        Known("NaN", DEAD, nan_from="empty rows"),
        Known("another arithmetic", DEAD, model="tf32"),
        Known("some more", DEAD, bound_factor=2.0),
    ],
    ids=lambda known: known.sentence,
)
def test_a_known_deviation_covers_nothing_else(other):
    assert ar.check(preset=preset(other), cases="mask-dead-rows").runs[0].verdict == "fail"


def attend(q, k, v, empty_row="uniform", **options):
    """(o, gradients) in float32 by the oracle under another convention."""
    a = ar.attention(q, k, v, empty_row=empty_row, **options)
    return a.o, lambda do: {name: d.astype(np.float32) for name, d in a.backward(do.astype(np.float32)).items()}


def judged(known, spoil, cases, **more):
    """The verdicts on each result, of a library of this convention whose results something was done to."""

    def forward(q, k, v, *, allowed=None, k_lengths=None, q_lengths=None, bias=None, align=None):
        given = {"allowed": allowed, "k_lengths": k_lengths, "q_lengths": q_lengths, "bias": bias, "align": align}
        return spoil({"o": attend(q, k, v, **given, **more)[0]}, given)["o"]

    def backward(do, q, k, v, o, lse, *, allowed=None, k_lengths=None, q_lengths=None, bias=None, align=None):
        given = {"allowed": allowed, "k_lengths": k_lengths, "q_lengths": q_lengths, "bias": bias, "align": align}
        return spoil(attend(q, k, v, **given, **more)[1](do), given)

    made = Preset("made.up", "numpy", forward, known=known)
    report = ar.check(preset=made, backward=backward, cases=cases)
    return {found.result: found.verdict for run in report.runs for found in run.results}


def untouched(results, given):
    return results


DEAD_CASES = ("mask-dead-rows", "k-lengths-zero", "gqa-allowed-lengths", "bias-dead-rows", "q-k-lengths")


@pytest.mark.parametrize("case", DEAD_CASES)
def test_dead_rows_of_another_convention_are_known_forward_and_backward(case):
    assert judged((), untouched, case)["o"] == "fail"
    verdicts = judged((MEAN,), untouched, case)
    assert (verdicts["o"], verdicts["dv"], verdicts["dq"]) == ("known", "known", "pass")


@pytest.mark.parametrize("result", ["o", "q", "v"])
@pytest.mark.parametrize("row", [0, 1], ids=["dead", "live"])
def test_a_fault_beside_a_convention_is_not_explained_away(result, row):
    """Row 0 of mask-dead-rows is dead, row 1 is not; a wrong number in either stays a failure."""

    def spoil(results, given):
        results = dict(results)
        if result in results:
            results[result] = results[result].copy()
            results[result][0, 0, row, 0] += np.float32(1e-3)
        return results

    verdicts = judged((MEAN,), spoil, "mask-dead-rows")
    assert verdicts["o" if result == "o" else f"d{result}"] == "fail"


NAN_ROWS = Known("a dead row is NaN", DEAD, nan_from="empty rows")
NAN_ROWS_ACROSS = Known("a dead row is NaN, in all heads", DEAD, nan_from="empty rows", spreads_across_heads=True)


def put(name, place, number):
    """What sets elements of a result to a number."""

    def spoil(results, given):
        if name not in results:
            return results
        x = results[name].copy()
        x[place] = number
        return {**results, name: x}

    return spoil


@pytest.mark.parametrize(
    ("name", "place", "number", "known", "verdict"),
    [
        ("o", (0, 0, 0, 0), np.nan, NAN_ROWS, "known"),
        ("o", (0, 0, 0), np.inf, NAN_ROWS, "known"),
        ("q", (0, 0, 3), np.nan, NAN_ROWS, "known"),
        ("v", (0, 0), np.nan, NAN_ROWS, "known"),
        ("o", (0, 0, 1), np.nan, NAN_ROWS, "fail"),
        ("q", (0, 0, 1), np.nan, NAN_ROWS, "fail"),
        ("o", (0, 0, 0), 1.0, NAN_ROWS, "fail"),
        ("v", (0, 0, 0), 1e-3, NAN_ROWS, "fail"),
        ("o", (0, 0, 1), np.nan, NAN_ROWS_ACROSS, "fail"),
    ],
)
def test_nan_is_known_only_where_dead_rows_bring_it(name, place, number, known, verdict):
    spoil = put(name, place, number)
    assert judged((known,), spoil, "mask-dead-rows", empty_row="zero")["o" if name == "o" else f"d{name}"] == verdict


def test_nan_of_a_dead_row_stays_in_its_batch_entry_and_its_head():
    """The last sequence of k-lengths-zero is empty, the first is not; gqa-allowed-lengths has some dead rows."""
    for entry, verdict in ((0, "fail"), (-1, "known")):
        spoil = put("v", (entry, 0), np.nan)
        assert judged((NAN_ROWS,), spoil, "k-lengths-zero", empty_row="zero")["dv"] == verdict
    one_head = np.zeros((2, 6, 13, 19), bool)
    one_head[:, 1:] = True
    case = Case("one-dead-head", "rows of one head", Size(13, 19, heads=6), {"allowed": one_head}, more=DEAD)
    for known, verdict in ((NAN_ROWS, "fail"), (NAN_ROWS_ACROSS, "known")):
        assert judged((known,), put("v", (0, 1), np.nan), [case], empty_row="zero")["dv"] == verdict


LEAK = Known("a masked NaN leaks", nan_from="poison")


@pytest.mark.parametrize("case", ["poison-nan-mask", "poison-inf-mask", "poison-nan-gqa", "poison-nan-bias"])
def test_a_leak_of_nan_explains_nan_and_no_number(case):
    def spoil(number):
        return put("o", (0, 0, 2), number)

    assert judged((LEAK,), spoil(np.nan), case, empty_row="zero")["o"] == "known"
    assert judged((LEAK,), spoil(0.5), case, empty_row="zero")["o"] == "fail"

    def both(results, given):
        return spoil(np.nan)(put("o", (1, 0, 4, 0), 0.5)(results, given), given)

    assert judged((LEAK,), both, case, empty_row="zero")["o"] == "fail"
    assert judged((LEAK,), put("o", (0, 0, 2), np.nan), "mask-half", empty_row="zero")["o"] == "fail"
    assert judged((LEAK,), put("o", (0, 0, 2), np.nan), "poison-1e3-mask", empty_row="zero")["o"] == "fail"


def test_two_deviations_together_are_both_told():
    """poison-nan-dead-rows has rows with nothing allowed, whose queries are NaN."""
    spoil = put("o", (0, 0, 2), np.nan)
    assert judged((LEAK, NAN_ROWS), spoil, "poison-nan-dead-rows")["o"] == "fail"
    made = judged((LEAK, MEAN), spoil, "poison-nan-dead-rows")
    assert made["o"] == "known"
    assert judged((MEAN,), spoil, "poison-nan-dead-rows")["o"] == "fail"


def test_a_wider_bound_or_another_arithmetic_has_its_limit():
    def narrow(q, k, v):
        return ar.attention(*(x.astype(np.float16).astype(x.dtype) for x in (q, k, v))).o

    def check(known):
        made = Preset("made.up", "numpy", narrow, known=known)
        return ar.check(preset=made, cases="shape-17x17").runs[0].verdict

    assert check((Known("as tf32", model="tf32"),)) == "known"
    assert check((Known("much", bound_factor=1e5),)) == "known"
    assert check((Known("a little", bound_factor=2.0),)) == "fail"
    assert check((Known("as f64", model="f64"),)) == "fail"


def test_what_has_no_right_values_is_never_known():
    def raises(q, k, v, *, allowed=None):
        raise RuntimeError("no such kernel")

    def other(q, k, v, *, allowed=None):
        return np.zeros((1, 2, 3), q.dtype)

    for function, verdict in ((raises, "error"), (other, "fail")):
        report = ar.check(preset=Preset("made.up", "numpy", function, known=(MEAN, LEAK)), cases="mask-dead-rows")
        assert report.runs[0].verdict == verdict


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_case_with_dead_rows_has_the_flag(seed):
    for case in CASES.values():
        if set(case.options) & {"allowed", "causal", "window", "k_lengths", "q_lengths", "k_segments", "bias"}:
            options = build(case, find("scaled_dot"), number_formats.find("float64"), seed).options
            dead = not allowed_pairs(case.size.queries, case.size.keys, options).any(axis=-1).all()
            assert not dead or "DeadRow" in case.flags, case.name


def test_a_deviation_that_has_vanished_is_reported():
    report = ar.check(preset=preset(MEAN, GONE), cases="scale,mask-dead-rows")
    assert report.passed
    assert report.meta["vanished"] == ["a scale is ignored"]
    assert "Known deviations that were not seen\n  a scale is ignored" in str(report)
    assert ar.check(preset=preset(GONE), cases="causal").meta["vanished"] == []


def test_a_rule_may_imply_an_option_and_others_are_refused():
    made = preset(rules={"scaled_dot": {}, "dot": {"scale": 1.0}})
    assert ar.check(preset=made, rule="dot", cases="shape-17x17").passed
    with pytest.raises(ar.OptionError, match=r"the preset made\.up is for the rule scaled_dot, dot; got 'cosine'"):
        ar.check(preset=made, rule="cosine")


def test_a_candidate_is_called_as_the_library_is():
    def torchlike(q, k, v, attn_mask=None):
        return ar.attention(q, k, v, allowed=attn_mask).o

    def as_library(function, q, k, v, *, allowed=None):
        return function(q, k, v, attn_mask=allowed)

    made = Preset("made.up", "numpy", as_library, "attention_ref:attention")
    report = ar.check(torchlike, preset=made, cases="mask-half")
    assert report.passed
    assert "torchlike as made.up against scaled_dot" in " ".join(str(report).split())


def test_models_of_a_preset_bound_a_dtype_more_widely():
    def narrow(q, k, v):
        return call(*(x.astype("float32") for x in (q, k, v))).astype(q.dtype)

    narrow_preset = Preset("made.up", "numpy", narrow, models={"float64": "f32"})
    assert ar.check(preset=narrow_preset, cases="shape-17x17", dtypes="float64").passed
    assert not ar.check(narrow, cases="shape-17x17", dtypes="float64").passed


def test_every_preset_is_whole():
    found = libraries.presets()
    assert {
        *("torch.sdpa", "torch.sdpa.math", "torch.sdpa.flash", "torch.flex_attention", "torch.mha", "mlx.sdpa"),
        *("jax.dot_product_attention", "keras.dot_product_attention", "keras.Attention", "keras.AdditiveAttention"),
        *("keras.MultiHeadAttention", "keras.GroupQueryAttention", "flash_attn", "tf.luong", "tf.bahdanau"),
        *(f"{where}.Attention-{n}" for where in ("onnx", "onnxruntime") for n in (23, 24, 25)),
    } <= set(found)
    for one in found.values():
        assert one.backend in backend.NAMES
        assert set(one.rules) <= set(ar.rules)
        for known in one.known:
            assert known.sentence == known.sentence.strip()
            assert any(known.covers(CASES[case], dtype) for case in MATRIX for dtype in one.dtypes), known
            assert known.convention or known.nan_from or known.model or known.bound_factor > 1 or known.returns, (
                "nothing says what it explains"
            )


def test_helpers_keep_the_numbers():
    q, k, v = np.ones((5, 4)), np.ones((2, 7, 4)), np.ones((3, 2, 7, 6))
    (a, b, c), original = four_axes(np.broadcast_to, q, k, v)
    assert (a.shape, b.shape, c.shape) == ((3, 1, 5, 4), (3, 2, 7, 4), (3, 2, 7, 6))
    assert original(np.zeros((1, 1, 5, 6))).shape == (5, 6)

    def pad(x, n):
        return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, n)])

    q, k, v, scale, width = equal_widths(pad, q, k, v, None)
    assert (q.shape[-1], v.shape[-1], scale, width) == (6, 6, 0.5, 6)


def test_a_preset_by_its_name_on_the_command_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(libraries, "presets", lambda: {"made.up": preset(MEAN)})
    path = tmp_path / "report.json"
    assert main(["check", "made.up", "--cases", "mask-dead-rows,mask-half", "--json", str(path)]) == 0
    assert capsys.readouterr().out.startswith("PASSED  made.up against scaled_dot")
    assert json.loads(path.read_text())["preset"] == "made.up"
    assert main(["check", "made.up", "--cases", "causal"]) == 3
    assert main(["check", "--list"]) == 0
    assert "made.up" in capsys.readouterr().out
    assert main(["check", "made.upp"]) == 2
    assert "did you mean 'made.up'" in capsys.readouterr().err
