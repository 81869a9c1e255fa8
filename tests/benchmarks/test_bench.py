"""The benchmark measures what it says, on sizes that take no time."""

import json
import sys
import time

import numpy as np
import pytest

import attention_ref as ar
from attention_ref.pipeline.tiled import blas
from benchmarks import speed
from benchmarks.bare import Bare
from benchmarks.contenders import contenders
from benchmarks.machine import limit
from benchmarks.memory import peak


@pytest.mark.parametrize("rule", ["scaled_dot", pytest.param("additive", marks=pytest.mark.slow)])
def test_every_contender_is_measured_or_left_out_for_a_reason(rule):
    result = speed.run(rule, (16, 33), "float64", heads=2, width=4, causal=True, repeat=1)
    for found in result["lengths"].values():
        assert {"plain", "tiled", "HIPS autograd"} <= found["seconds"].keys()
        assert found["seconds"].keys() == found["peak"].keys()
        assert all(seconds > 0 for seconds in found["seconds"].values())
        assert all(found["left_out"].values())
        assert found["left_out"]["tiled, causal"] == "all calls are causal here"
    text = speed.table(result)
    assert "L = 33" in text
    assert ("of it reached by tiled" in text) == (rule == "scaled_dot")


@pytest.mark.parametrize(("first", "said", "calls"), [(0.2, 0.1, 8), (3.0, 3.0, 1)])
def test_a_quick_call_is_timed_once_it_has_settled(first, said, calls, monkeypatch):
    """Calls that are not counted while the threads spread, then the median of some; what takes seconds is made once."""
    seconds = iter([first, 0.2, 0.09, 0.02, 0.1, 0.1, 0.05, 0.1])
    taken = []
    monkeypatch.setattr(speed, "timed", lambda call: taken.append(next(seconds)) or taken[-1])
    assert speed.steady(None) == said
    assert len(taken) == calls


def test_the_command_writes_its_figures(tmp_path, capsys):
    out, plot = tmp_path / "b.json", tmp_path / "b.png"
    asked = ["--lengths", "8,16", "--heads", "1", "--width", "4", "--repeat", "1", "--forward"]
    assert speed.main([*asked, "--json", str(out), "--plot", str(plot)]) == 0
    assert "scaled_dot, float32, 1 head of 4, forward" in capsys.readouterr().out
    assert json.loads(out.read_text())["lengths"]["16"]["seconds"]["tiled"] > 0
    assert plot.stat().st_size > 1000


@pytest.mark.parametrize("path", ["nowhere/b.png", "b.foo", "b"])
def test_a_picture_that_cannot_be_written_is_refused_before_anything_is_measured(path, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "run", None)
    with pytest.raises(SystemExit, match="2"):
        speed.main(["--plot", str(tmp_path / path)])
    assert "python -m benchmarks.speed: error: " in capsys.readouterr().err


def test_milliseconds_are_readable_from_the_smallest_to_the_largest():
    assert [speed.milliseconds(s) for s in (0.0000123, 0.0078, 0.0948, 13.348)] == ["0.0123", "7.8", "94.8", "13348"]


@pytest.mark.parametrize("asked", [["--lengths", "8,x"], ["--heads", "0"], ["--rule", "nothing"]], ids=str)
def test_what_cannot_be_measured_is_refused_in_a_sentence(asked, capsys):
    with pytest.raises(SystemExit, match="2"):
        speed.main(asked)
    assert "python -m benchmarks.speed: error: " in capsys.readouterr().err


def test_causal_tiles_are_measured_beside_full_ones(monkeypatch):
    monkeypatch.setattr("benchmarks.machine.kernel", lambda: "someblas 1.2 Whatever")
    result = speed.run(lengths=(16,), heads=1, width=4, repeat=1, backward=False)
    assert result["lengths"]["16"]["seconds"]["tiled, causal"] > 0
    assert "an exponential, by someblas 1.2 Whatever" in speed.table(result)
    q = np.random.default_rng(0).standard_normal((1, 1, 5, 3))
    calls, _ = contenders({"q": q, "k": q, "v": q}, "scaled_dot", False, False)
    np.testing.assert_array_equal(calls["tiled, causal"](), ar.attention(q, q, q, causal=True).o)
    result = speed.run("positional_concat", (16,), heads=1, width=4, repeat=1)
    assert result["lengths"]["16"]["left_out"]["tiled, causal"] == "this rule has no key positions"


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("heads", "length"), [(1, 5), (3, 131), (8, 300)])
def test_the_bare_function_computes_the_same(heads, length, causal):
    q, k, v, do = np.random.default_rng(0).standard_normal((4, heads, length, 7))
    a = ar.attention(q, k, v, causal=causal)
    want = (a.o, *(a.backward(do)[name] for name in "qkv"))
    call = Bare(q, k, v, do, causal).run
    for _ in range(2):
        for got, right in zip(call(), want, strict=True):
            np.testing.assert_allclose(got, right, rtol=1e-12, atol=1e-12)


def test_the_kernel_is_named_where_threadpoolctl_says_it(monkeypatch):
    class Fake:
        def info(self):
            return [
                {"internal_api": "openblas", "version": "0.3.31", "architecture": "Haswell"},
                {"internal_api": "mkl"},
                {"internal_api": "mkl"},
            ]

    monkeypatch.setattr(blas, "controller", Fake)
    assert blas.kernel() == "openblas 0.3.31 Haswell and mkl"
    monkeypatch.setattr(blas, "controller", lambda: None)
    assert blas.kernel() == ""


def test_the_limit_is_products_and_exponentials():
    speeds = {"gemm": 1e9, "exp": 1e-9}
    assert limit(speeds, 1000, 64, True) == pytest.approx(1000 * (7 * 128 + 2) * 1e-9)
    assert limit(speeds, 1000, 64, False) == pytest.approx(1000 * (2 * 128 + 1) * 1e-9)


def test_the_peak_sees_what_is_gone_afterwards_and_the_second_time_as_well():
    pins = []

    def call():
        held = [np.ones(2**13) for _ in range(2**11)]
        pins.append(np.ones(2**13))  # above the others on the heap, which could shrink without it
        for x in held:
            x += 1

    for _ in range(3):
        assert 2**26 < peak(call) < 2**28


def test_what_a_call_imports_is_no_part_of_its_peak(monkeypatch):
    sizes = []

    def made(arrays, rule, causal, do):
        return lambda: sizes.append(arrays["q"].shape[-2]) or time.sleep(0.05)

    monkeypatch.setattr(sys.modules["benchmarks.contenders"], "MAKERS", {"tiled": (made, ())})
    speed.run(lengths=(23,), heads=1, width=4, repeat=1)
    assert sizes[:2] == [speed.WARM, 23]


def test_the_table_has_the_spread_and_each_reason_once():
    found = {
        "seconds": {"tiled": 0.010, "other": 0.020, "once": 0.040},
        "range": {"tiled": [0.009, 0.011], "other": [0.020, 0.028], "once": [0.04, 0.04]},
        "peak": {"tiled": 2**20, "other": 2**22, "once": 2**23},
        "left_out": {"a": "no scaled_dot", "b": "not installed", "c": "not installed"}
        | {f"{name}, causal": "one and the same reason" for name in "defghijklm"},
    }
    result = {"rule": "scaled_dot", "dtype": "float32", "heads": 2, "width": 4, "causal": False, "backward": True}
    result |= {"machine": {"gemm": 1e9, "exp": 1e-9, "blas": ""}, "lengths": {"16": found}}
    page = speed.table(result)
    rows = [line.split() for line in page.splitlines()]
    assert ["tiled", "10", "±10%", "1", "1.0"] in rows
    assert ["other", "20", "±20%", "0.5", "4.0"] in rows
    assert ["once", "40", "0.25", "8.0"] in rows
    assert "  left out: b; c: not installed\n" in page
    assert page.endswith("is known of scaled_dot only")
    assert "bare" not in page
    assert max(map(len, page.splitlines())) <= 100
