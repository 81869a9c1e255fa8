"""No false alarm: attention in many correct ways passes."""

import os
from importlib.util import find_spec

import numpy as np
import pytest
from candidates import CORES, Candidate
from thinned import thinned

import attention_ref as ar
from attention_ref.oracle.bounds import number_formats

CASES = (
    "shape-1x1,shape-17x17,shape-16x16,width-40x80,causal-bottom-right-tall,window-causal,causal-lengths,mask-half,"
    "mask-nothing,mask-first-tile-dead,bias-minus-inf,bias-minus-1e4,softcap-mask,dropout-mask,gqa-bias,mqa,gqa-dropout,"
    "scale-by-head,values-peaked,values-tied,values-cancelling,values-huge,values-tiny,values-last-key,layout-strided,"
    "shared-kv,no-batch-no-head,poison-nan-lengths,poison-inf-mask"
)
DTYPES = ("float32", "float64", "float16")


def narrow():
    """The dtypes that there are here: bfloat16 comes with ml_dtypes."""
    return (*DTYPES, "bfloat16") if find_spec("ml_dtypes") else DTYPES


def test_bfloat16_without_ml_dtypes_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ml_dtypes", None)
    with pytest.raises(ar.OptionError, match="bfloat16 needs the package ml_dtypes: pip install ml_dtypes"):
        ar.check(Candidate(CORES["naive"]), dtypes="bfloat16")


@pytest.mark.parametrize("number", range(len(CORES)))
def test_a_correct_candidate_passes(number):
    name = list(CORES)[number]
    candidate = Candidate(CORES[name])
    dtype = narrow()[number % len(narrow())]
    third = ",".join(CASES.split(",")[number % 3 :: 3])
    report = ar.check(candidate, cases=third, dtypes=dtype, seed=number, backward=candidate.backward)
    assert report.passed, f"{name}\n{report}"
    assert report.counts()["unsupported"] == report.counts()["suspicious"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", CORES)
def test_a_correct_candidate_passes_in_every_dtype_with_ten_seeds(name):
    """Core with one seed, a case for each flag with nine. ATTENTION_REF_WHOLE=1 runs core with all ten."""
    candidate = Candidate(CORES[name])
    for seed in range(10):
        cases = "core" if seed == 0 or "ATTENTION_REF_WHOLE" in os.environ else thinned(1)
        report = ar.check(candidate, dtypes=narrow(), seed=seed, cases=cases, backward=candidate.backward)
        assert report.passed, f"{name}\n{report}"


@pytest.mark.parametrize("rule", ar.rules)
def test_the_package_itself_passes_under_every_rule(rule):
    def forward(q, k, v, **options):
        a = ar.attention(q, k, v, rule, **options)
        return {"o": a.o, "alpha": a.alpha, "lse": a.lse}

    def backward(do, q, k, v, o, lse, dlse=None, **options):
        return ar.attention(q, k, v, rule, **options).backward(do, dlse=dlse)

    report = ar.check(forward, rule, backward=backward, cases=thinned(1), seed=3)
    assert report.passed, str(report)
    assert report.counts()["suspicious"] == 0
    assert report.counts()["unsupported"] < 20


@pytest.mark.parametrize("dtype", ["float16"])
def test_emulated_arithmetic_passes_with_scores_near_one(dtype):
    emulated, narrow = ar.emulate(dtype), number_formats.find(dtype).dtype

    def forward(q, k, v, **options):
        a = emulated(q, k, v, **options)
        return a.o.astype(narrow), None if a.lse is None else a.lse.astype(np.float32)

    def backward(do, q, k, v, o, lse, dlse=None, **options):
        grads = emulated(q, k, v, **options).backward(do.astype(np.float32), dlse=dlse)
        return {name: x.astype(narrow) for name, x in grads.items()}

    report = ar.check(forward, dtypes=dtype, backward=backward, cases=CASES)
    assert report.passed, str(report)
    scores = [c.worst.score for run in report.runs for c in run.results if c.worst is not None and c.result == "o"]
    assert 0.1 < max(scores) < 1


def test_every_result_is_compared():
    every_result_is_compared(thinned(1))


@pytest.mark.slow
def test_every_result_of_full_is_compared():
    every_result_is_compared("full")


def every_result_is_compared(cases):
    """Nothing unsupported, nothing without a bound, every gradient seen."""

    def forward(q, k, v, **options):
        a = ar.attention(q, k, v, **options)
        return a.o, a.lse

    def backward(do, q, k, v, o, lse, dlse=None, **options):
        return ar.attention(q, k, v, **options).backward(do, dlse=dlse)

    report = ar.check(forward, cases=cases, backward=backward)
    assert report.passed, str(report)
    assert report.counts()["pass"] == len(report.runs)
    results = {c.result for run in report.runs for c in run.results}
    floating = {"bias", "scale", "softcap", "sink", "alibi_slopes", "relative_table"}
    assert results == {"o", "lse", "dq", "dk", "dv"} | {f"d{name}" for name in floating}
