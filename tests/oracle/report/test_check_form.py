"""What a report says first of results in the wrong form: dtype, shape, views, what was raised, what varies."""

import itertools
from functools import partial

import numpy as np
import pytest

import attention_ref as ar

SOME = "shape-17x17,shape-3x131,gqa,causal,poison-nan-mask"


def right(q, k, v, **options):
    a = ar.attention(q, k, v, **options)
    return a.o, a.lse


def back(do, q, k, v, o, lse, dlse=None, **options):
    return ar.attention(q, k, v, **options).backward(do, dlse=dlse)


def only_o(change):
    return lambda q, k, v, **options: change(right(q, k, v, **options)[0])


def diagnosis(candidate, cases=SOME, **options):
    return ar.check(candidate, cases=cases, **options).diagnosis


def test_a_wrong_dtype_is_told_with_its_usual_cause_and_no_mistake_is_invented():
    found = diagnosis(only_o(lambda o: o.astype(np.float64)))
    assert found.forward == ()
    assert found.sentence == (
        "o comes back as float64 for float32 inputs in 5 cases (shape-17x17, shape-3x131, gqa, …): a float64 scalar "
        "or array in it promotes the rest, as np.sqrt(d) of an integer does; compute in q.dtype or return "
        "o.astype(q.dtype)"
    )


def test_a_mistake_in_the_wrong_dtype_is_named_as_well():
    found = diagnosis(lambda q, k, v, **options: right(q, k, v, **options | {"scale": 1.0})[0].astype(np.float64))
    assert [finding.names for finding in found.forward] == [("scale-missing",)]
    assert found.parts[0].startswith("o comes back as float64 for float32 inputs")
    assert found.parts[1].endswith("the scale left out")


def test_an_object_array_does_not_vary():
    assert diagnosis(only_o(lambda o: o.astype(object))).sentence.startswith("o comes back as object for float32")


def flat(o):
    return o.reshape(-1, *o.shape[2:])


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        (lambda o: np.swapaxes(o, -1, -2).copy(), "the last two axes exchanged"),
        (lambda o: np.swapaxes(o, -2, -3).copy(), "the axes of heads and rows exchanged"),
        (lambda o: np.swapaxes(o, -2, -3).reshape(o.shape[0], o.shape[2], -1), "the heads merged into the width"),
        (flat, "batch and heads merged"),
        (lambda o: o[None].copy(), "one axis too many"),
    ],
)
def test_what_was_done_to_the_axes_is_told(change, clause):
    sentence = diagnosis(only_o(change)).sentence
    assert sentence.startswith("o has shape (")
    assert clause in sentence


def test_a_gradient_for_each_query_head_is_told_to_be_summed():
    def unsummed(do, q, k, v, o, lse, dlse=None, **options):
        grads = back(do, q, k, v, o, lse, dlse, **options)
        return grads | {"k": np.repeat(grads["k"], q.shape[-3] // k.shape[-3], axis=-3)}

    found = diagnosis(right, backward=unsummed)
    assert found.cases == ("gqa",)
    assert "one gradient for each query head: sum it over the heads of a group: gqa" in found.sentence


def test_axes_read_in_another_order_are_named():
    def rows_first(q, k, v):
        return np.swapaxes(right(*(np.swapaxes(x, -2, -3) for x in (q, k, v)))[0], -2, -3).copy()

    found = diagnosis(rows_first, "shape-17x17,shape-3x131")
    assert [finding.names for finding in found.forward] == [("heads-as-rows",)]


def test_what_a_candidate_writes_into_its_inputs_changes_nothing_here():
    def careless(q, k, v, **options):
        o = right(q, k, v, **options)[0]
        q *= 2
        k[...] = 0
        return o

    report = ar.check(careless, cases="shape-17x17")
    found = report.runs[0].results[0]
    assert found.verdict == "pass"
    assert found.worst.score < 1
    assert report.diagnosis.sentence == "it writes into its input q: shape-17x17"


def test_what_raises_does_not_hide_what_is_wrong_elsewhere():
    def both(q, k, v, causal=False, **options):
        if k.shape[-3:-2] != q.shape[-3:-2]:
            raise ValueError("no groups here")
        return right(q, k, v, **options)

    parts = diagnosis(both).parts
    assert parts[0].startswith("every case that returns agrees to ")
    assert parts[-1].startswith("it raised ValueError: no groups here (test_check_form.py:")
    assert parts[-1].endswith(": gqa")


def test_results_that_vary_are_not_put_down_to_rounding():
    factors = itertools.count(1)
    found = diagnosis(only_o(lambda o: o * np.float32(1 + 1e-3 * (next(factors) % 7))), "shape-17x17,shape-3x131")
    assert found.parts == (
        "o differs between two runs on the same inputs in 2 cases (shape-17x17, shape-3x131): an uninitialized buffer, "
        "a race or an unseeded generator does that",
    )


def test_results_that_vary_inside_their_bound_have_a_diagnosis_unless_they_may():
    factors = itertools.count(1)
    candidate = only_o(lambda o: o * np.float32(1 + 2.0**-23 * (next(factors) % 2)))
    assert "differs between two runs" in diagnosis(candidate, "shape-17x17").sentence
    assert diagnosis(candidate, "shape-17x17", deterministic=False) is None


def keyword_only(*, q, k, v):
    return right(q, k, v)


def forwards_all(q, k, v, **options):
    return takes_none(q, k, v, **options)


def takes_none(q, k, v):
    return right(q, k, v)


@pytest.mark.parametrize(
    ("candidate", "hint"),
    [
        (keyword_only, "3 were given; it is called as candidate(q, k, v, **options)"),
        (lambda q, k: q, "3 were given; it is called as candidate(q, k, v, **options)"),
        (forwards_all, "leave an option that it does not have out of the signature, or raise NotImplementedError"),
    ],
)
def test_a_call_that_does_not_fit_says_what_would(candidate, hint):
    assert hint in diagnosis(candidate, "shape-17x17,causal").sentence


def test_gradients_under_the_wrong_names_do_not_pass():
    def renamed(*given, **options):
        return {f"d{name}": x for name, x in back(*given, **options).items()}

    report = ar.check(right, cases="shape-17x17", backward=renamed)
    assert not report.passed
    assert 'under the names dq, dk, dv; return a dict such as {"q": dq' in report.diagnosis.sentence


def test_options_under_another_librarys_names_are_pointed_out():
    def foreign(query, key, value, attn_mask=None):
        return right(query, key, value)

    page = str(ar.check(foreign, cases="shape-17x17,mask-half"))
    assert "Unused option attn_mask=: ar.attention has no option of that name." in page


def test_what_was_asked_for_is_not_what_was_done():
    def attend(q, k, v, causal=False, align=None):
        s = q @ np.swapaxes(k, -1, -2) * np.float32(q.shape[-1] ** -0.5)
        s = np.where(np.tri(*s.shape[-2:], dtype=bool), s, -np.inf) if causal else s
        e = np.exp(s - s.max(axis=-1, keepdims=True))
        return e @ v / e.sum(axis=-1, keepdims=True)

    sentence = diagnosis(attend, "causal-top-left,causal-bottom-right,poison-nan-causal").sentence
    assert 'align="top_left"' in sentence
    assert sentence.endswith("; you were asked for bottom_right")


def test_a_partial_is_named_and_its_line_of_code_found():
    def raising(q, k, v, fast=False):
        raise RuntimeError("not here")

    report = ar.check(partial(raising, fast=True), cases="shape-17x17")
    assert report.meta["candidate"].startswith("partial of ")
    assert "(test_check_form.py:" in report.diagnosis.sentence


def test_a_bound_method_is_no_target():
    class Kernel:
        def forward(self, q, k, v):
            return right(q, k, v)[0] * np.float32(2)

    assert "attention-ref check TARGET --case shape-17x17" in str(ar.check(Kernel().forward, cases="shape-17x17"))


def test_the_diagnosis_comes_before_the_tables_and_names_the_smallest_case():
    page = str(ar.check(only_o(lambda o: o * np.float32(2)), cases="shape-3x131,shape-1x1,causal"))
    order = [page.index(part) for part in ("FAILED", "Diagnosis: ", "Next: ", "bounded as f32", "Worst cases")]
    assert order == sorted(order)
    assert "Next: run the smallest case that shows it by itself\n  attention-ref check TARGET --case shape-1x1 " in page
