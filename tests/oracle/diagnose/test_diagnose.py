"""What a diagnosis says: of mistakes alone and in pairs, of what is in no catalog, of what is right."""

import numpy as np
import pytest
from thinned import thinned

import attention_ref as ar
from attention_ref.oracle.bounds import number_formats
from attention_ref.oracle.cases.case import build
from attention_ref.oracle.cases.select import select
from attention_ref.oracle.check import check
from attention_ref.oracle.diagnose.diagnose import kernel_with
from attention_ref.oracle.diagnose.faults import MISTAKES, Online, Split, Straight
from attention_ref.oracle.diagnose.faults.roundings import ARITHMETIC, bf16, f16, tf32
from attention_ref.oracle.run.truth import Truth
from attention_ref.pipeline.rule import find, rules

RULE = find("scaled_dot")
SOME = "shape-17x17,causal,causal-bottom-right,window,softcap-bias,gqa,dropout,sink,mask-half,values-last-key"
SINGLE = ARITHMETIC["float32"]


def forward(q, k, v, **options):
    a = ar.attention(q, k, v, **options)
    return a.o, a.lse


def backward(do, q, k, v, o, lse, dlse=None, **options):
    return ar.attention(q, k, v, **options).backward(do, dlse=dlse)


def kernel(*names):
    """(candidate, backward) with these mistakes of the catalog."""
    broken = kernel_with(tuple(MISTAKES[name] for name in names))

    def candidate(q, k, v, **options):
        got = broken(RULE, {"q": q, "k": k, "v": v}, options, SINGLE).forward()
        return {name: x.astype(np.float32) for name, x in got.items()}

    def gradients(do, q, k, v, o, lse, dlse=None, **options):
        got = broken(RULE, {"q": q, "k": k, "v": v}, options, SINGLE).backward(do, dlse, o, lse)
        return {name[1:]: x.astype(np.float32) for name, x in got.items()}

    return candidate, gradients


@pytest.mark.parametrize("host", [Straight, Online, Split])
@pytest.mark.parametrize("rule", rules)
def test_the_kernel_without_a_mistake_is_right(rule, host):
    rule = find(rule)
    for case in select(
        "core" if rule is RULE and host is Split else f"{SOME},scale-by-head,k-lengths,empty-row-uniform"
    ):
        if case.unfit(rule):
            continue
        inputs = build(case, rule, number_formats.find("float64"))
        truth = Truth(rule, inputs, "f64", with_dlse=True)
        want = truth.forward() | {f"d{name}": x for name, x in truth.backward().items()}
        with np.errstate(all="ignore"):
            one = host(rule, inputs.arrays, inputs.options)
            got = one.forward()
            got |= one.backward(inputs.do, truth.cotangents.get("lse"), got["o"], got.get("lse"))
        for name, x in got.items():
            finite = np.abs(want[name][np.isfinite(want[name])])
            size = finite.max(initial=0)
            np.testing.assert_allclose(x, want[name], rtol=1e-9, atol=1e-11 * size, err_msg=f"{case.name} {name}")
        assert set(want) - {"alpha"} == set(got)


def test_a_correct_candidate_has_no_diagnosis():
    assert check(forward, backward=backward, cases=SOME).diagnosis is None


def test_the_sentence_says_what_was_done_and_what_was_asked_for():
    def top_left(q, k, v, **options):
        return forward(q, k, v, **options | {"align": "top_left"} if "align" in options else options)

    sentence = check(top_left, cases=thinned(1, whole="Align")).diagnosis.sentence
    assert sentence[:26].endswith("e-7 with") or " to " in sentence
    before, _, after = sentence.partition(" with ")
    assert before.startswith("every case agrees to ")
    assert float(before.rpartition(" ")[2]) < 5e-6
    assert after == 'align="top_left"; you were asked for bottom_right'


def test_a_right_forward_with_a_wrong_gradient():
    def unscaled(do, q, k, v, o, lse, dlse=None, **options):
        grads = backward(do, q, k, v, o, lse, dlse, **options)
        return grads | {"q": (grads["q"] / np.float32(options.get("scale", q.shape[-1] ** -0.5)))}

    found = check(forward, backward=unscaled, cases=SOME).diagnosis
    assert found.forward == ()
    assert [finding.names for finding in found.backward] == [("dq-unscaled",)]
    assert found.sentence.startswith("every gradient agrees to ")
    assert found.sentence.endswith(" with the scale missing in dq")


def test_gradients_that_are_right_for_the_wrong_output():
    def base_two(q, k, v, **options):
        o, lse = forward(q, k, v, **options)
        return o, (lse / np.float32(np.log(2))).astype(lse.dtype)

    found = check(base_two, backward=backward, cases="shape-17x17,causal").diagnosis
    assert [finding.names for finding in found.forward] == [("lse-base-two",)]
    assert found.backward == ()
    _, trusting = kernel("last-key-dropped")
    found = check(kernel("lse-without-max")[0], backward=kernel()[1], cases="shape-17x17,causal").diagnosis
    assert found.sentence.endswith("The gradients are right for the o and lse that were returned")
    assert trusting is not None


def test_a_scale_under_a_rule_that_has_none_is_named():
    def scaled(q, k, v, **options):
        return ar.attention(q, k, v, **options).o

    report = ar.check(scaled, rule="dot", cases="shape-17x17,causal,values-peaked")
    assert [finding.names for finding in report.diagnosis.forward] == [("scale-unasked",)]
    assert "with the scale 1/sqrt(d), which this rule does not have" in report.diagnosis.sentence


def test_the_same_mistake_forward_and_backward_is_told_once():
    candidate, gradients = kernel("heads-interleaved")
    found = check(candidate, backward=gradients, cases=SOME).diagnosis
    assert found.sentence.endswith(
        "query head h reading key head h % g instead of h // r. The gradients have the same mistake"
    )
    assert found.cases == ("gqa",)


PAIRS = [
    ("causal-strict", "scale-missing"),
    ("window-left-short", "lse-base-two"),
    ("softcap-after-bias", "heads-interleaved"),
    ("dropout-unscaled", "sink-ignored"),
    ("mask-inverted", "align-top-left"),
]


@pytest.mark.parametrize(
    "pair", [pytest.param(p, marks=[pytest.mark.slow] * (n > 1)) for n, p in enumerate(PAIRS)], ids="+".join
)
def test_pairs_of_mistakes_are_found(pair):
    candidate, gradients = kernel(*pair)
    found = check(candidate, backward=gradients, cases=SOME).diagnosis
    assert set(pair) in [set(finding.names) for finding in found.forward]
    assert " and " in found.sentence


def test_a_pair_of_which_every_case_has_both():
    candidate, _ = kernel("scale-missing", "last-key-dropped")
    found = check(candidate, cases="shape-17x17,shape-2x16,width-8x16").diagnosis
    assert {"scale-missing", "last-key-dropped"} in [set(finding.names) for finding in found.forward]


def test_a_pair_of_gradient_mistakes():
    _, gradients = kernel("dq-unscaled", "group-first")
    found = check(forward, backward=gradients, cases=SOME).diagnosis
    assert [set(finding.names) for finding in found.backward] == [{"dq-unscaled", "group-first"}]


def test_what_these_cases_cannot_tell_apart_is_all_named():
    def without(q, k, v, **options):
        return forward(q, k, v)

    found = check(without, cases="causal").diagnosis
    assert {finding.names for finding in found.forward} == {("causal-ignored",), ("masks-forgotten",)}
    assert "causal ignored" in found.sentence
    assert found.sentence.endswith(": these cases do not tell them apart")
    found = check(without, cases="causal,mask-half").diagnosis
    assert [finding.names for finding in found.forward] == [("masks-forgotten",)]


def test_what_is_in_no_catalog_is_left_to_the_localization():
    def odd(q, k, v, **options):
        o, lse = forward(q, k, v, **options)
        o = o.copy()
        o[..., 3:5, 2] *= np.float32(1.5)
        return o, lse

    found = check(odd, cases="shape-17x17,causal,mask-half").diagnosis
    assert found.forward == ()
    assert found.sentence.startswith("no mistake of the catalog, alone or with another, makes these results. ")
    assert found.sentence.endswith("Every case that could be run fails")


def test_a_candidate_that_raises_leaves_the_other_cases_to_the_diagnosis():
    def raising(q, k, v, softcap=None, **options):
        if softcap is not None:
            raise RuntimeError("no softcap here")
        return forward(q, k, v, **options | {"scale": 1.0})

    found = check(raising, cases=SOME).diagnosis
    assert [finding.names for finding in found.forward] == [("scale-missing",)]
    assert "softcap-bias" in found.cases


def test_coarse_arithmetic_is_told_by_the_model_that_bounds_it():
    def half(q, k, v, **options):
        return forward(*(bf16(x) for x in (q, k, v)), **options)

    sentence = check(half, cases="shape-17x17,causal").diagnosis.sentence
    assert sentence.endswith(", either way, as errors are that come of q, k and v rounded to bfloat16")


def test_a_mistake_is_not_named_for_a_factor_that_is_in_no_catalog():
    def slightly(q, k, v, **options):
        return forward(q, k, v, **{"scale": 1.01 / np.sqrt(q.shape[-1])} | options)

    found = check(slightly, cases="shape-17x17,causal,gqa").diagnosis
    assert all(finding.names == ("arithmetic",) for finding in found.forward)


def test_roundings_by_bits():
    x = np.random.default_rng(0).standard_normal(4096).astype(np.float32) * np.float32(2) ** np.arange(
        -40, 88, 128 / 4096
    )
    x = x.astype(np.float32)
    assert (np.abs(bf16(x) - x) / np.abs(x)).max() <= 2.0**-8
    np.testing.assert_array_equal(
        bf16(np.float32([1 + 2**-8, 1 + 3 * 2**-8, np.inf, -0.0])), [1, 1 + 2**-6, np.inf, -0.0]
    )
    assert np.isnan(bf16(np.float32([np.nan]))).all()
    np.testing.assert_array_equal(f16(np.float32([65519, 2**-25])), [65504, 0])
    np.testing.assert_array_equal(tf32(np.float32([1 + 2**-10, 1 + 2**-11, -1 - 2**-11])), [1 + 2**-10, 1, -1])


def test_weights_among_the_results_are_diagnosed_like_the_rest():
    """alpha is no result of every mistake in the catalog, and is 0 in a row with nothing allowed."""

    def coarse(q, k, v, allowed=None):
        a = ar.attention(*(x.astype(np.float16) for x in (q, k, v)), allowed=allowed)
        return {name: x.astype(np.float16).astype(np.float32) for name, x in (("o", a.o), ("alpha", a.alpha))}

    def silent(q, k, v, allowed=None):
        return {"o": ar.attention(q, k, v, allowed=allowed).o + np.float32(1e-3)}

    for function, cases in ((coarse, "shape-17x17,mask-half,gqa"), (silent, "mask-nothing")):
        report = ar.check(function, cases=cases)
        assert not report.passed
        assert report.diagnosis.sentence
