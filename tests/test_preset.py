"""Presets: what a library is called with, what it cannot say, and what it is known for."""

import json

import numpy as np
import pytest

import attention_ref as ar
from attention_ref import backend, cli
from attention_ref.backend import presets
from attention_ref.backend.presets import Known, Preset
from attention_ref.backend.presets.preset import equal_widths, four_axes, refuse
from attention_ref.oracle.matrix import CASES as MATRIX


def call(q, k, v, *, allowed=None, scale=None):
    """A library that gives the mean of all values where nothing is allowed, and knows no negative scale."""
    if isinstance(scale, float) and scale < 0:
        refuse("it has no negative scale")
    return ar.attention(q, k, v, allowed=allowed, scale=scale, empty_row="uniform").o


UNIFORM = Known("a dead row is uniform", ("mask-dead-rows", "mask-nothing"), ("o",))
GONE = Known("a scale is ignored", ("scale",))


def preset(*known, **more):
    return Preset("made.up", "numpy", call, known=known, **more)


def test_a_deviation_that_is_known_does_not_fail():
    report = ar.check(preset=preset(UNIFORM), cases="mask-dead-rows,mask-half,scale-negative")
    assert [run.verdict for run in report.runs] == ["known", "pass", "unsupported"]
    assert report.passed
    page = str(report)
    assert "Known deviations\n  a dead row is uniform: 1 case (mask-dead-rows)" in page
    assert "it has no negative scale: 1 case (scale-negative)" in page
    assert not ar.check(preset=preset(), cases="mask-dead-rows").passed


@pytest.mark.parametrize(
    "other",
    [
        Known("another case", ("mask-half",)),
        Known("another result", ("mask-*",), ("lse",)),
        Known("another dtype", ("mask-*",), (), ("float64",)),
        Known("another verdict", ("mask-*",), verdicts=("suspicious",)),
    ],
)
def test_a_known_deviation_covers_nothing_else(other):
    assert ar.check(preset=preset(other), cases="mask-dead-rows").runs[0].verdict == "fail"


def test_a_deviation_that_has_vanished_is_reported():
    report = ar.check(preset=preset(UNIFORM, GONE), cases="scale,mask-dead-rows")
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
    found = presets.presets()
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
            assert any(known.covers(case, dtype) for case in MATRIX for dtype in one.dtypes), known


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
    monkeypatch.setattr(presets, "presets", lambda: {"made.up": preset(UNIFORM)})
    path = tmp_path / "report.json"
    assert cli.main(["check", "made.up", "--cases", "mask-dead-rows,mask-half", "--json", str(path)]) == 0
    assert capsys.readouterr().out.startswith("PASSED  made.up against scaled_dot")
    assert json.loads(path.read_text())["preset"] == "made.up"
    assert cli.main(["check", "made.up", "--cases", "causal"]) == 3
    assert cli.main(["check", "--list"]) == 0
    assert "made.up" in capsys.readouterr().out
    assert cli.main(["check", "made.upp"]) == 2
    assert "did you mean 'made.up'" in capsys.readouterr().err
