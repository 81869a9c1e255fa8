"""The adjustments of the scores, and rotary embedding: facts found without them."""

from math import cos, log, sin

import numpy as np
import pytest

import attention_ref as ar
from attention_ref.adjust.relative import t5_bucket
from attention_ref.adjust.rotary import rotary_angles
from attention_ref.masks.positions import relative


def run(name, d=None, **inputs):
    op = ar.ops[f"adjust.{name}"]
    value, tape = op.forward(**inputs)
    return value if d is None else (value, op.backward(d, **tape))


EXAMPLES = [(name, n) for name, op in ar.ops.items() if name.startswith("adjust.") for n in range(len(op.variants))]


@pytest.mark.parametrize(("name", "variant"), EXAMPLES)
@pytest.mark.parametrize("leading", [(), (2, 3)], ids=str)
def test_complex_step_and_backward_are_transposes(name, variant, leading):
    """⟨d, J t⟩ = ⟨Jᵀ d, t⟩ for every argument, of which each has leading axes of its own when there are any."""
    op, rng = ar.ops[name], np.random.default_rng(13)
    own = [leading, leading[1:], (*leading[:1], *[1] * len(leading[1:]))]
    inputs = op.example(12, leading={key: own[n % 3] for n, key in enumerate(op.arguments)}, variant=variant)
    value, tape = op.forward(**inputs)
    d = rng.standard_normal(value.shape)
    grads = op.backward(d, **tape)
    for key, gradient in grads.items():
        tangent = rng.standard_normal(inputs[key].shape)
        along = np.sum(d * ar.jvp(op, inputs, {key: tangent}))
        np.testing.assert_allclose(np.sum(gradient * tangent), along, rtol=1e-12, err_msg=key)
    np.testing.assert_allclose(op.definition(np, **inputs), value, rtol=0, atol=1e-14)


def test_a_large_softcap_changes_nothing():
    s, d = np.random.default_rng(0).standard_normal((2, 5, 7))
    capped, grads = run("softcap", d, s=s, softcap=1e9)
    np.testing.assert_allclose(capped, s, rtol=1e-15)
    np.testing.assert_allclose(grads["s"], d, rtol=1e-15)
    np.testing.assert_allclose(grads["softcap"], 0, atol=1e-15)


def test_a_softcap_bounds_the_scores():
    s, d = np.array([[-np.inf, -1e4, 0, 0.5, 1e4, np.inf, np.nan]]), np.full((1, 7), 2.0)
    capped, grads = run("softcap", d, s=s, softcap=np.full((1, 7), 3.0))
    np.testing.assert_allclose(capped, [[-3, -3, 0, 3 * np.tanh(1 / 6), 3, 3, np.nan]], rtol=1e-15)
    np.testing.assert_allclose(grads["s"], [[0, 0, 2, 2 / np.cosh(1 / 6) ** 2, 0, 0, np.nan]], rtol=1e-15)
    slope = 2 * (np.tanh(1 / 6) - 1 / 6 / np.cosh(1 / 6) ** 2)
    np.testing.assert_allclose(grads["softcap"], [[-2, -2, 0, slope, 2, 2, np.nan]], rtol=1e-13)


def test_the_gradient_of_softcap_is_exact_in_the_tail():
    _, grads = run("softcap", np.ones((1, 1)), s=np.full((1, 1), 60.0), softcap=2.0)
    np.testing.assert_allclose(grads["s"], 4 * np.exp(-60), rtol=1e-15)


@pytest.mark.parametrize("shape", [(), (7,), (5, 1), (3, 1, 1), (2, 1, 5, 7), (2, 3, 5, 7)], ids=str)
def test_a_bias_of_any_shape(shape):
    rng = np.random.default_rng(1)
    s, d, bias = rng.standard_normal((2, 3, 5, 7)), rng.standard_normal((2, 3, 5, 7)), rng.standard_normal(shape)
    biased, grads = run("bias", d, s=s, bias=bias)
    np.testing.assert_array_equal(biased, s + bias)
    np.testing.assert_array_equal(grads["s"], d)
    want = np.zeros(shape)
    for at in np.ndindex(d.shape):
        want[tuple(0 if n == 1 else a for a, n in zip(at[4 - len(shape) :], shape, strict=True))] += d[at]
    np.testing.assert_allclose(grads["bias"], want, rtol=1e-12)


def test_a_bias_of_minus_infinity_forbids():
    biased = run("bias", s=np.ones((1, 2)), bias=np.array([-np.inf, 0.0]))
    np.testing.assert_array_equal(biased, [[-np.inf, 1]])


@pytest.mark.parametrize("offset", [0, 3, np.array([[2], [-1]])], ids=str)
def test_alibi_by_loops(offset):
    rng = np.random.default_rng(2)
    s, d, slopes = rng.standard_normal((2, 3, 5, 7)), rng.standard_normal((2, 3, 5, 7)), rng.random(3)
    biased, grads = run("alibi", d, s=s, alibi_slopes=slopes, distance=np.abs(relative(5, 7, offset)).astype(float))
    want, dslopes, offset = s.copy(), np.zeros(3), np.broadcast_to(offset, (2, 3))
    for b, h, i, j in np.ndindex(s.shape):
        want[b, h, i, j] -= slopes[h] * abs(i + offset[b, h] - j)
        dslopes[h] -= d[b, h, i, j] * abs(i + offset[b, h] - j)
    np.testing.assert_allclose(biased, want, rtol=1e-15)
    np.testing.assert_allclose(grads["alibi_slopes"], dslopes, rtol=1e-12)


def test_causal_alibi_is_a_slope_along_the_keys():
    """The paper writes m * [-(i - 1), ..., -1, 0], which differs from m * j by a constant of the row."""
    s, slope = np.random.default_rng(3).standard_normal((5, 5)), 0.25
    allowed = np.tri(5, dtype=bool)
    biased = run("alibi", s=s, alibi_slopes=slope, distance=np.abs(relative(5, 5)).astype(float))
    alpha, along = (
        ar.ops["normalize.softmax"].forward(np.where(allowed, x, -np.inf))[0][0]
        for x in (biased, s + slope * np.arange(5))
    )
    np.testing.assert_allclose(alpha, along, rtol=1e-14)


@pytest.mark.parametrize("shape", [(5, 7), (7,), (5, 1), (2, 1, 5, 7), (2, 3, 5, 7)], ids=str)
def test_relative_bias_by_loops(shape):
    rng = np.random.default_rng(4)
    s, d = rng.standard_normal((2, 2, 3, 5, 7))
    table, bucket = rng.standard_normal((3, 4)), rng.integers(0, 4, shape)
    biased, grads = run("relative", d, s=s, relative_table=table, bucket=bucket)
    want, dtable, bucket = s.copy(), np.zeros((3, 4)), np.broadcast_to(bucket, s.shape)
    for b, h, i, j in np.ndindex(s.shape):
        want[b, h, i, j] += table[h, bucket[b, h, i, j]]
        dtable[h, bucket[b, h, i, j]] += d[b, h, i, j]
    np.testing.assert_array_equal(biased, want)
    np.testing.assert_allclose(grads["relative_table"], dtable, rtol=1e-12)


def test_a_bucket_outside_the_table_is_refused():
    with pytest.raises(ar.OptionError, match=r"bucket holds 4; with n = 4 it must be in 0\.\.3"):
        run("relative", s=np.zeros((1, 1)), relative_table=np.zeros(4), bucket=np.full((1, 1), 4))


def t5_by_words(relative, buckets, max_distance, bidirectional):
    """One position at a time, as the paper's authors describe it, with a logarithm."""
    first = 0
    if bidirectional:
        buckets //= 2
        if relative > 0:
            first = buckets
        n = abs(relative)
    else:
        n = max(-relative, 0)
    exact = buckets // 2
    if n < exact:
        return first + n
    large = exact + int(log(n / exact) / log(max_distance / exact) * (buckets - exact) + 1e-12)
    return first + min(large, buckets - 1)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (32, 20), (64, 1000), (12, 81), (7, 50), (4, 3)])
def test_t5_buckets_are_those_of_the_paper(buckets, max_distance, bidirectional):
    positions = np.arange(-2 * max_distance, 2 * max_distance + 1)
    found = t5_bucket(positions, buckets, max_distance, bidirectional)
    want = [t5_by_words(int(r), buckets, max_distance, bidirectional) for r in positions]
    np.testing.assert_array_equal(found, want)
    assert found.min() == 0
    assert found.max() == (buckets // 2 * 2 - 1 if bidirectional else buckets - 1)


def test_t5_buckets_by_hand():
    """8 exact distances, then edges at 8 * 2**(k/2): 8, 11.3, 16, 22.6, 32, 45.3, 64, 90.5."""
    distances = [0, 1, 7, 8, 11, 12, 15, 16, 22, 23, 31, 32, 45, 46, 63, 64, 90, 91, 128, 5000]
    want = [0, 1, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15, 15]
    np.testing.assert_array_equal(t5_bucket(-np.array(distances)), want)
    np.testing.assert_array_equal(t5_bucket(np.array(distances[1:])), np.array(want[1:]) + 16)
    np.testing.assert_array_equal(t5_bucket([5, 1, 0, -1], bidirectional=False), [0, 0, 0, 1])


@pytest.mark.parametrize("options", [{"buckets": 2}, {"buckets": 32, "max_distance": 8}])
def test_t5_buckets_refuse_what_has_no_edges(options):
    with pytest.raises(ar.OptionError, match="must be at least 1 and less than max_distance"):
        t5_bucket([1], **options)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("width", [6, 4, 0])
def test_rotary_by_loops(interleaved, width):
    x = np.random.default_rng(5).standard_normal((2, 5, 7))
    positions = np.array([0, 1, 5, 2, 40])
    y = run("rotary", x=x, **angles(positions, width), interleaved=interleaved)
    want = x.copy()
    for t, position in enumerate(positions):
        for m in range(width // 2):
            a, b = (2 * m, 2 * m + 1) if interleaved else (m, m + width // 2)
            angle = position / 10000 ** (2 * m / width)
            want[:, t, a] = x[:, t, a] * cos(angle) - x[:, t, b] * sin(angle)
            want[:, t, b] = x[:, t, b] * cos(angle) + x[:, t, a] * sin(angle)
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(y[..., width:], x[..., width:])


def angles(positions, width, **options):
    return dict(zip(("cos", "sin"), rotary_angles(positions, width, **options), strict=True))


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_keeps_norms_and_its_backward_turns_back(interleaved):
    x, d = np.random.default_rng(6).standard_normal((2, 3, 5, 8))
    turn = angles(np.arange(5), 6, base=100.0)
    y, grads = run("rotary", d, x=x, **turn, interleaved=interleaved)
    np.testing.assert_allclose(np.sum(y * y, axis=-1), np.sum(x * x, axis=-1), rtol=1e-14)
    back = run("rotary", x=d, **turn | {"sin": -turn["sin"]}, interleaved=interleaved)
    np.testing.assert_allclose(grads["x"], back, rtol=0, atol=1e-15)
    assert grads["cos"].shape == grads["sin"].shape == (5, 3)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("width", [8, 6])
def test_rotary_scores_depend_on_relative_positions_only(interleaved, width):
    rng = np.random.default_rng(7)
    q, k = rng.standard_normal((5, 8)), rng.standard_normal((7, 8))

    def scores(shift):
        turned = (
            run("rotary", x=x, **angles(np.arange(len(x)) + shift, width), interleaved=interleaved) for x in (q, k)
        )
        return np.einsum("id,jd->ij", *turned)

    np.testing.assert_allclose(scores(0), scores(93), rtol=0, atol=1e-12)
    assert np.abs(scores(0) - q @ k.T).max() > 0.1


def test_the_two_orders_of_rotary_are_a_permutation_of_the_features():
    x, turn = np.random.default_rng(8).standard_normal((5, 6)), angles(np.arange(5), 6)
    halves = run("rotary", x=x, **turn)
    interleaved = run("rotary", x=x[:, [0, 3, 1, 4, 2, 5]], **turn, interleaved=True)
    np.testing.assert_array_equal(interleaved[:, [0, 2, 4, 1, 3, 5]], halves)


def test_rotary_angles():
    found = rotary_angles(np.array([[0, 3]]), 4, base=16.0)
    np.testing.assert_allclose(found, [np.cos([[[0, 0], [3, 0.75]]]), np.sin([[[0, 0], [3, 0.75]]])], rtol=1e-15)
    with pytest.raises(ar.OptionError, match="width must be even, features turn in pairs; got 5"):
        rotary_angles([0], 5)


def test_rotary_refuses_more_pairs_than_features():
    with pytest.raises(ar.ShapeError, match=r"turn 2 r = 8 features, and x has only d = 7"):
        run("rotary", x=np.zeros((5, 7)), cos=np.zeros((5, 4)), sin=np.zeros((5, 4)))


def test_what_rotary_does_not_turn_stays_clean():
    x = np.full((1, 3), np.nan)
    x[0, 2] = 1.5
    assert run("rotary", x=x, **angles([1], 2))[0, 2] == 1.5
