"""Selection by the bits gives what np.where gives, to the bit."""

import numpy as np
import pytest

from attention_ref.op.arrays import select

WILD = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-310, -3.5]


@pytest.mark.parametrize("dtype", ["float32", "float64", "longdouble", "complex64", "complex128"])
@pytest.mark.parametrize("other", [0.0, -np.inf, np.nan, -2.5])
@pytest.mark.parametrize("mask", [(11, 7), (1, 7), (11, 1), (), (2, 3, 11, 7)], ids=str)
def test_selection(dtype, other, mask):
    rng = np.random.default_rng(0)
    x = np.swapaxes(rng.choice(WILD, (3, 7, 11)), -1, -2).astype(dtype)
    allowed = rng.random(mask) < 0.5
    got, want = select(allowed, x, other), np.where(allowed, x, other).astype(dtype)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if x.itemsize <= 8:
        assert got.tobytes() == want.tobytes()
    else:
        np.testing.assert_array_equal(got, want)
