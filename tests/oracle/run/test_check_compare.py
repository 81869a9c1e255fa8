"""Comparison and localization: they fail closed, and they say where."""

import numpy as np
import pytest

from attention_ref.oracle.bounds import number_formats
from attention_ref.oracle.run.compare import Wanted, compare
from attention_ref.oracle.run.localize import broken_stage, describe, locate

F32 = number_formats.find("float32")


def judged(got, want, delta=1e-6, fmt=F32, dtypes=None):
    want = np.asarray(want, np.float64)
    dtypes = dtypes or (fmt.dtype,)
    return compare("o", np.asarray(got, dtypes[-1]), Wanted(want, np.full(want.shape, delta), fmt, dtypes))


def test_what_is_inside_the_bound_passes_with_its_score():
    found, wrong = judged([1.0, 2.0], [1.0, 2.0 + 2.0**-21])
    assert found.verdict == "pass"
    assert not wrong.any()
    assert found.worst.index == (1,)
    assert found.worst.error == 2.0**-21
    assert found.worst.ulps == 2.0
    assert found.worst.score == pytest.approx(2.0**-21 / 1e-6)


def test_what_is_outside_fails_at_its_worst_element():
    found, wrong = judged([[1, 2], [3, 4]], [[1, 2], [3.1, 4.5]])
    assert (found.verdict, found.wrong, found.size) == ("fail", 2, 4)
    assert found.worst.index == (1, 1)
    assert (found.worst.got, found.worst.want) == (4.0, 4.5)
    assert wrong.tolist() == [[False, False], [True, True]]


@pytest.mark.parametrize(
    ("got", "want", "sentence"),
    [
        (np.nan, 1.0, "o is nan, where it should not be, at 1 of 1 elements"),
        (np.inf, 1.0, "o is inf, where it should not be"),
        (1.0, -np.inf, "o is not -inf, as it should be"),
        (np.inf, -np.inf, "o is inf, where it should not be"),
        (1.0, np.nan, "o is not nan, as it should be"),
    ],
)
def test_what_is_not_finite_on_one_side_fails(got, want, sentence):
    found, _ = judged([got], [want])
    assert found.verdict == "fail"
    assert found.sentence.startswith(sentence)
    assert not found.worst.score < np.inf


@pytest.mark.parametrize("x", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_on_both_sides_passes(x):
    assert judged([x, 1.0], [x, 1.0])[0].verdict == "pass"


def test_a_bound_that_is_not_a_number_fails_and_an_infinite_one_passes():
    assert judged([1.0], [1.5], np.nan)[0].verdict == "fail"
    assert judged([1.0], [1.5], np.inf)[0].verdict == "pass"
    assert judged([np.inf], [1e30], np.inf)[0].verdict == "pass"


def test_a_bound_of_zero_asks_for_the_exact_value():
    assert judged([0.0], [0.0], 0.0)[0].verdict == "pass"
    found, _ = judged([1e-30], [0.0], 0.0)
    assert found.verdict == "fail"
    assert found.worst.score == np.inf


def test_shape_and_dtype_come_first():
    assert judged([[1.0]], [1.0])[0].sentence == "o has shape (1, 1), expected (1,)"
    found = compare("o", np.ones(1), Wanted(np.ones(1), np.ones(1), F32, (F32.dtype,)))[0]
    assert (found.verdict, found.sentence) == ("fail", "o has dtype float64, expected float32")


def test_ulps_are_those_of_the_output_dtype():
    f16 = number_formats.find("float16")
    found, _ = judged([1.0 + 2.0**-9], [1.0], 1.0, f16)
    assert found.worst.ulps == 2.0
    assert number_formats.find("float32").ulp(1.0) == np.spacing(np.float32(1))
    assert number_formats.find("float16").ulp(2e-7) == np.spacing(np.float16(2e-7))
    assert number_formats.find("float64").ulp(0.7) == np.spacing(0.7)


def test_a_narrow_lse_is_allowed_one_rounding_more():
    f16 = number_formats.find("float16")
    wanted = Wanted(np.array([3.1415926]), np.array([1e-6]), f16, (f16.dtype, np.dtype("float32")))
    assert compare("lse", np.array([3.1415926], np.float16), wanted)[0].verdict == "pass"
    assert compare("lse", np.array([3.1446], np.float32), wanted)[0].verdict == "fail"
    assert compare("lse", np.array([3.2], np.float16), wanted)[0].verdict == "fail"


def wrong_at(shape, *index):
    wrong = np.zeros(shape, bool)
    wrong[index] = True
    return wrong


ALL = slice(None)


@pytest.mark.parametrize(
    ("result", "wrong", "where"),
    [
        ("o", np.ones((2, 3, 5, 4), bool), "everywhere"),
        ("o", wrong_at((2, 3, 5, 4), ALL, 1), "40 of 120 elements, only in head 1 of 3"),
        ("o", wrong_at((2, 5, 37, 4), 1, ALL, slice(3, 9)), "batch entry 1 of 2, rows 3 to 8 of 37"),
        (
            "dk",
            wrong_at((1, 2, 67, 4), ..., slice(64, 67), ALL),
            "partial tile of keys (64 to 66 of 67, tile 64)",
        ),
        ("o", wrong_at((1, 1, 12, 8), ..., slice(4, 8)), "columns 4 to 7 of 8"),
        ("o", wrong_at((1, 1, 12, 8), 0, 0, slice(0, 12, 3)), "rows 0, 3, … 9 of 12 (every third)"),
        ("lse", wrong_at((2, 3, 5), 0, [0, 2]), "batch entry 0 of 2, heads 0, 2 of 3"),
    ],
)
def test_locate(result, wrong, where):
    assert describe(locate(result, wrong)).endswith(where)


def test_locate_names_the_keys_that_the_wrong_rows_see():
    causal = np.tri(33, dtype=bool)
    wrong = np.zeros((2, 3, 33, 4), bool)
    wrong[..., 32:, :] = True
    assert "exactly the rows that may attend to the last key" in describe(locate("o", wrong, causal))
    wrong[..., 16:, :] = True
    assert "exactly the rows that may attend to keys 16 to" in describe(locate("o", wrong, causal))
    dead = causal.copy()
    dead[[3, 9]] = False
    wrong = np.zeros((2, 3, 33, 4), bool)
    wrong[..., [3, 9], :] = True
    assert "exactly the rows that may attend to no key" in describe(locate("o", wrong, dead))


def test_the_first_broken_stage_is_named():
    rng = np.random.default_rng(0)
    want = {"score": rng.standard_normal((3, 5)), "scaled": rng.standard_normal((3, 5))}
    got = {name: x.astype(np.float32) for name, x in want.items()}
    assert broken_stage(got, want, F32) is None
    got["scaled"] = got["scaled"] * 1.01
    assert broken_stage(got, want, F32).sentence.startswith("stage 'scaled' is the first that is wrong: off by")
    got["score"] = got["score"][:2]
    assert broken_stage(got, want, F32).sentence == "stage 'score' has shape (2, 5), expected (3, 5)"
