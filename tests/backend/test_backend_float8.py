"""Results in float8, whatever framework they come from: read exactly, and a wrong dtype for other inputs."""

import ml_dtypes
import numpy as np
import pytest

import attention_ref as ar
from attention_ref.backend import find, installed

FLOAT8 = ("float8_e4m3fn", "float8_e5m2")
IN_FLOAT8 = {
    "numpy": lambda xp, x, dtype: x.view(getattr(ml_dtypes, dtype)),
    "torch": lambda xp, x, dtype: xp.from_numpy(x).view(getattr(xp, dtype)),
    "jax": lambda xp, x, dtype: xp.lax.bitcast_convert_type(xp.numpy.asarray(x), getattr(xp.numpy, dtype)),
    "tensorflow": lambda xp, x, dtype: xp.constant(x.view(getattr(ml_dtypes, dtype))),
    "onnx": lambda xp, x, dtype: x.view(getattr(ml_dtypes, dtype)),
}
HERE = [
    pytest.param(name, marks=[pytest.mark.backends] * (name != "numpy")) for name in IN_FLOAT8 if name in installed()
]


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("dtype", FLOAT8)
def test_results_in_float8_are_read_exactly(name, dtype):
    adapter = find(name)
    every = np.arange(256, dtype=np.uint8)
    back = adapter.numpy(IN_FLOAT8[name](adapter.xp, every, dtype))
    assert back.dtype.name == dtype
    want = every.view(back.dtype).astype(np.float64)
    assert np.array_equal(back.astype(np.float64), want, equal_nan=True)
    assert np.array_equal(np.signbit(back.astype(np.float64))[want == 0], np.signbit(want)[want == 0])


@pytest.mark.parametrize("name", HERE)
def test_results_in_float8_for_another_dtype_are_a_wrong_dtype(name):
    adapter = find(name)
    zeros = np.zeros((2, 3, 17, 11), np.uint8)

    def candidate(q, k, v):
        return IN_FLOAT8[name](adapter.xp, zeros, "float8_e5m2")

    run = ar.check(candidate, backend=name, backward=False, cases="shape-17x17").runs[0]
    assert (run.verdict, run.sentence) == ("fail", "o has dtype float8_e5m2, expected float32")
