"""Emulated low precision: rounding where it was asked for and nowhere else, forward and backward."""

import sys

import combos as c
import numpy as np
import pytest

import attention_ref as ar
from attention_ref.pipeline.emulate import KERNEL, STAGES

FORWARD = ("q", "k", "v", "score", "scaled", "capped", "biased", "masked", "alpha", "dropped", "o", "lse")


def call(**more):
    inputs = c.draw("scaled_dot", "allowed", "bias (4, 5, 7)", "softcap", "dropout", "grouped heads") | more
    return {name: x.astype(np.float32) if is_float(x) else x for name, x in inputs.items()}


def is_float(x):
    return isinstance(x, (np.ndarray, np.floating)) and x.dtype.kind == "f"


def rounded(x):
    return x.astype(np.float16).astype(np.float32)


def representable(x):
    return np.array_equal(x, rounded(x), equal_nan=True)


def cotangents(inputs):
    rng = np.random.default_rng(4)
    lead, e = inputs["q"].shape[:-1], inputs["v"].shape[-1]
    return rng.standard_normal((*lead, e)).astype(np.float32), rng.standard_normal(lead).astype(np.float32)


def shown(a):
    return {name: a.tape[name] for name in a.tape if name in FORWARD} | {"o": a.o, "lse": a.lse}


def test_without_stages_nothing_is_rounded():
    inputs = call()
    got, want = ar.emulate("float16", stages=())(**inputs), ar.attention(**inputs)
    for name, x in shown(want).items():
        assert np.array_equal(shown(got)[name], x), name
    do, dlse = cotangents(inputs)
    for name, x in want.backward(do, dlse=dlse).items():
        assert np.array_equal(got.backward(do, dlse=dlse)[name], x), name


@pytest.mark.parametrize("stage", [stage for stage in FORWARD if stage not in "qkv"])
def test_a_stage_is_rounded_and_no_earlier_one(stage):
    inputs = call()
    got, want = (shown(a) for a in (ar.emulate("float16", stages=[stage])(**inputs), ar.attention(**inputs)))
    order = list(got)
    assert stage in order
    for name in order:
        alone = name in ("o", "lse") and stage in ("o", "lse") and name != stage
        if name == "lse" and stage in ("alpha", "dropped"):
            alone = True
        if name == stage:
            assert representable(got[name])
            assert np.array_equal(got[name], rounded(want[name]))
            assert not np.array_equal(got[name], want[name])
        elif order.index(name) < order.index(stage) or alone:
            assert np.array_equal(got[name], want[name]), name


@pytest.mark.parametrize("name", ["q", "k", "v", "bias"])
def test_a_rounded_input_is_that_input_rounded(name):
    inputs = call()
    got, want = ar.emulate("float16", stages=[name])(**inputs), ar.attention(**inputs | {name: rounded(inputs[name])})
    plain = ar.attention(**inputs)
    assert np.array_equal(got.o, want.o)
    assert not np.array_equal(got.o, plain.o)
    do, dlse = cotangents(inputs)
    for gradient, x in want.backward(do, dlse=dlse).items():
        assert np.array_equal(got.backward(do, dlse=dlse)[gradient], x), gradient


@pytest.mark.parametrize("name", ["q", "k", "v", "bias"])
@pytest.mark.parametrize("heads", [c.H, c.G, 1])
def test_a_gradient_is_rounded_once_it_is_summed(name, heads):
    inputs = call(bias=np.random.default_rng(1).standard_normal((c.H, 1, c.S)).astype(np.float32))
    inputs |= {x: c.draw("scaled_dot", heads=heads)[x].astype(np.float32) for x in "kv"}
    do, dlse = cotangents(inputs)
    want = ar.attention(**inputs).backward(do, dlse=dlse)
    got = ar.emulate("float16", stages=[f"d{name}"])(**inputs).backward(do, dlse=dlse)
    for other in want:
        assert np.array_equal(got[other], rounded(want[other]) if other == name else want[other]), other
    assert not np.array_equal(got[name], want[name])


def test_a_rounded_cotangent_is_that_cotangent_rounded():
    inputs = call()
    do, dlse = cotangents(inputs)
    got = ar.emulate("float16", stages="do")(**inputs).backward(do, dlse=dlse)
    want = ar.attention(**inputs).backward(rounded(do), dlse=dlse)
    for name in want:
        assert np.array_equal(got[name], want[name]), name


def test_rounding_in_backward_leaves_out_what_comes_later():
    inputs = call()
    do, _ = cotangents(inputs)
    want = ar.attention(**inputs).backward(do)
    for stage, reached in (("dalpha", ("q", "k", "bias", "softcap")), ("ds", ("q", "k"))):
        got = ar.emulate("float16", stages=[stage])(**inputs).backward(do)
        assert np.array_equal(got["v"], want["v"])
        for name in want:
            if name not in reached:
                assert np.array_equal(got[name], want[name]), (stage, name)
                continue
            assert not np.array_equal(got[name], want[name]), (stage, name)
            c.close(got[name], want[name], name, 4e-3)


def test_the_default_is_a_kernel():
    inputs = call()
    a = ar.emulate("float16")(**inputs)
    assert all(stage in STAGES for stage in KERNEL)
    for x in (a.o, a.alpha, a.tape["dropped"]):
        assert x.dtype == np.float32
        assert representable(x)
    assert not representable(a.lse)
    do, dlse = cotangents(inputs)
    grads = a.backward(do, dlse=dlse)
    assert all(representable(grads[name]) for name in "qkv")
    want = ar.attention(**inputs)
    c.close(a.o, want.o, "o", 4e-3)
    for name, x in want.backward(do, dlse=dlse).items():
        c.close(grads[name], x, name, 1e-2)


def test_every_rule_can_be_emulated():
    for rule in ar.rules:
        inputs = c.draw(rule, "allowed")
        a = ar.emulate("float16")(rule=rule, **inputs)
        c.close(a.o, ar.attention(rule=rule, **inputs).o, rule, 2e-2)
        assert a.o.dtype == np.float32
        assert representable(a.o)


def test_compute_says_what_lies_between():
    inputs = call()
    assert ar.emulate("float16", compute="float64")(**inputs).o.dtype == np.float64
    as_lists = inputs | {name: inputs[name].tolist() for name in ("q", "k", "v", "bias")}
    assert np.array_equal(ar.emulate("float16")(**as_lists).o, ar.emulate("float16")(**inputs).o)
    assert ar.emulate("float16")(**as_lists).o.dtype == np.float32


def test_an_infinity_stays_one_and_too_much_becomes_one():
    bias = np.zeros((c.L, c.S), np.float32)
    bias[:, 2], bias[:, 3] = -np.inf, -1e6
    a = ar.emulate("float16", stages=("bias", "masked"))(**call(bias=bias))
    assert np.isneginf(a.tape["masked"][..., 2:4]).all()
    assert np.isfinite(a.o).all()


@pytest.mark.parametrize("name", ["float0", "bfloat", "float64", "int8", "", 3, None])
def test_an_unknown_dtype_is_refused(name):
    with pytest.raises(ar.OptionError, match=r"^emulate: there is no dtype .*; try bfloat16, float16, .*$"):
        ar.emulate(name)


def test_an_unknown_stage_is_refused():
    for stages in (["softmax"], "softmax", ["q", "softmax"]):
        with pytest.raises(ar.OptionError, match=r"^emulate: there is no stage 'softmax'; the stages are q, k, .*$"):
            ar.emulate("float16", stages=stages)


def test_an_unknown_compute_is_refused():
    with pytest.raises(ar.OptionError, match=r"^emulate: compute must be float32 or float64; got 'int8'$"):
        ar.emulate("float16", compute="int8")


def test_what_attention_refuses_stays_refused():
    inputs = call()
    with pytest.raises(ar.OptionError, match="q must be floating-point; got dtype int64"):
        ar.emulate("float16")(**inputs | {"q": np.ones(inputs["q"].shape, int)})
    with pytest.raises(ar.OptionError, match="there is no rule 'scale_dot'"):
        ar.emulate("float16")(rule="scale_dot", **inputs)


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn"])
def test_without_ml_dtypes_one_sentence_says_how_to_get_it(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ar.OptionError) as caught:
        ar.emulate(name)
    assert str(caught.value) == f"emulate: {name} needs the package ml_dtypes: pip install ml_dtypes"
    assert ar.emulate("float16")(**call()).o.shape
