"""The benchmark in small, under pytest-benchmark: `pytest -m benchmark`, to compare two states of the code."""

import numpy as np
import pytest

import attention_ref as ar
from attention_ref.oracle.cases.case import Case, Size
from benchmarks.contenders import contenders
from benchmarks.speed import inputs

pytestmark = pytest.mark.benchmark
SIZES = {"heads": 2, "width": 16}


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("name", ["plain", "tiled"])
@pytest.mark.parametrize("rule", ar.rules)
def test_a_rule(benchmark, rule, name, backward):
    calls, _ = contenders(inputs(rule, 128, "float32", **SIZES), rule, False, backward)
    benchmark(calls[name])


def test_a_causal_mask(benchmark):
    calls, _ = contenders(inputs("scaled_dot", 512, "float32", **SIZES), "scaled_dot", True, True)
    benchmark(calls["tiled"])


def test_a_check(benchmark):
    case = Case("small", "to see what a check costs", Size(64, 67), {"causal": True, "align": 0})
    report = benchmark(lambda: ar.check(lambda q, k, v, **options: ar.attention(q, k, v, **options).o, cases=[case]))
    assert report.passed


def test_a_sample(benchmark):
    q, k, v = np.random.default_rng(0).standard_normal((3, 2048, 16))
    benchmark(lambda: ar.sample(q, k, v, q, rows=[3, 2000], keys=[1999], causal=True))
