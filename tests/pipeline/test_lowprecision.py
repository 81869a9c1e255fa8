"""Emulated bfloat16 and float8, of the package ml_dtypes."""

import combos as c
import ml_dtypes
import numpy as np
import pytest

import attention_ref as ar

pytestmark = pytest.mark.extra
EPS = {"bfloat16": 2**-8, "float8_e4m3fn": 2**-4, "float8_e5m2": 2**-3}


def rounded(x, dtype):
    return np.asarray(x).astype(getattr(ml_dtypes, dtype)).astype(x.dtype)


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("rule", ar.rules)
def test_results_and_gradients_are_representable_and_near(rule, dtype):
    inputs = c.draw(rule, "allowed", "grouped heads")
    a, want = ar.emulate(dtype)(rule=rule, **inputs), ar.attention(rule=rule, **inputs)
    do = np.random.default_rng(2).standard_normal(a.o.shape)
    grads, exact = a.backward(do), want.backward(do)
    for got, like in [(a.o, want.o), (a.alpha, want.alpha), *((grads[name], exact[name]) for name in "qkv")]:
        assert got.dtype == np.float32
        assert np.array_equal(got, rounded(got, dtype))
        c.close(got, like, dtype, 10 * EPS[dtype])


@pytest.mark.parametrize("dtype", EPS)
def test_inputs_in_the_dtype_itself_are_taken_as_they_are(dtype):
    inputs = c.draw("scaled_dot")
    narrow = {name: inputs[name].astype(getattr(ml_dtypes, dtype)) for name in "qkv"}
    got, want = (ar.emulate(dtype)(**given) for given in (narrow, inputs))
    assert got.o.dtype == np.float32
    assert np.array_equal(got.o, want.o)


@pytest.mark.parametrize("dtype", EPS)
def test_masked_scores_can_be_rounded_where_the_dtype_has_no_infinity(dtype):
    inputs = c.draw("scaled_dot", "allowed", "bias (4, 5, 7)")
    a = ar.emulate(dtype, stages=("bias", "score", "scaled", "biased", "masked", "lse"))(**inputs)
    want = ar.attention(**inputs)
    assert np.array_equal(np.isneginf(a.tape["masked"]), np.isneginf(want.tape["masked"]))
    assert np.array_equal(np.isneginf(a.lse), np.isneginf(want.lse))
    assert np.isfinite(a.o).all()


def test_jvp_of_narrow_inputs():
    inputs = {name: x.astype(ml_dtypes.bfloat16) for name, x in c.draw("scaled_dot").items()}
    wide = {name: x.astype(np.float64) for name, x in inputs.items()}
    tangents = {"q": np.random.default_rng(3).standard_normal(inputs["q"].shape)}
    got, want = (ar.jvp("scaled_dot", given, tangents) for given in (inputs, wide))
    assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))


def test_a_dtype_that_ml_dtypes_has_not_is_refused():
    with pytest.raises(ar.OptionError, match=r"^emulate: there is no dtype 'float8_e9m9'; try bfloat16, "):
        ar.emulate("float8_e9m9")
