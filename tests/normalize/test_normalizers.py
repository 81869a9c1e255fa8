"""The normalizers: what can be said of them by hand, and the rows on which they could go wrong."""

from itertools import combinations

import numpy as np
import pytest

import attention_ref as ar
from attention_ref.pipeline.recorder import has_lse

NAMES = sorted(name.removeprefix("normalize.") for name in ar.ops if name.startswith("normalize."))
SIMPLEX = ("softmax", "sparsemax", "entmax15")


def run(name, s, d=None, sink=-0.3):
    """alpha, and for a cotangent d the gradients as well."""
    op = ar.ops[f"normalize.{name}"]
    inputs = {"s": np.asarray(s)} | ({"sink": np.asarray(sink, np.asarray(s).dtype)} if "sink" in op.arguments else {})
    value, tape = op.forward(**inputs)
    if not has_lse(op.module):
        return value if d is None else (value, op.backward(d, **tape))
    alpha, _ = value
    return alpha if d is None else (alpha, op.backward((d, None), **tape))


def test_which_have_an_lse():
    with_lse = [name for name in NAMES if has_lse(ar.ops[f"normalize.{name}"].module)]
    assert with_lse == ["softmax", "softmax_off_by_one", "softmax_sink"]


@pytest.mark.parametrize("name", ["softmax", "softmax_off_by_one", "softmax_sink"])
def test_lse_and_its_gradients_are_the_layers(name):
    """A normalizer gives its lse beside alpha; `layer.logsumexp` gives it alone, with the sink as an argument."""
    rng = np.random.default_rng(11)
    s, dlse = rng.standard_normal((3, 5, 7)), rng.standard_normal((3, 5))
    s[1, 2], s[2, 3, ::2] = -np.inf, -np.inf
    sinks = {"softmax": None, "softmax_off_by_one": np.zeros(()), "softmax_sink": rng.standard_normal(3)}
    given = {"sink": sinks[name]} if name == "softmax_sink" else {}
    op, layer = ar.ops[f"normalize.{name}"], ar.ops["layer.logsumexp"]
    (_, lse), tape = op.forward(s=s, **given)
    want, want_tape = layer.forward(s=s, **({} if sinks[name] is None else {"sink": sinks[name]}))
    np.testing.assert_allclose(lse, want, rtol=1e-15, atol=1e-15)
    grads, want_grads = op.backward((None, dlse), **tape), layer.backward(dlse, **want_tape)
    for argument in grads:
        np.testing.assert_allclose(grads[argument], want_grads[argument], rtol=1e-14, atol=1e-15)


def projection(s):
    """The nearest point of the simplex, by trying every set of coordinates that may be above 0."""
    best = None
    for size in range(1, len(s) + 1):
        for kept in map(list, combinations(range(len(s)), size)):
            p = np.zeros(len(s))
            p[kept] = s[kept] - (s[kept].sum() - 1) / size
            if p.min() >= 0 and (best is None or np.sum((p - s) ** 2) < np.sum((best - s) ** 2)):
                best = p
    return best


def test_sparsemax_is_the_projection_on_the_simplex():
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.standard_normal((20, 6)), rng.integers(-2, 3, (20, 6)) / 2, rng.random((20, 6)) / 3])
    np.testing.assert_allclose(run("sparsemax", rows), [projection(row) for row in rows], rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("s", "alpha"),
    [
        ([0.5, 0.0], [0.75, 0.25]),
        ([1.0, 0.0], [1.0, 0.0]),
        ([3.0, 1.0, 3.0], [0.5, 0.0, 0.5]),
        ([0.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]),
        ([1.0, 0.75, 0.5, -1.0], [7 / 12, 4 / 12, 1 / 12, 0.0]),
    ],
)
def test_sparsemax_by_hand(s, alpha):
    np.testing.assert_allclose(run("sparsemax", [s])[0], alpha, rtol=0, atol=1e-16)


def bisected(s):
    """entmax with alpha = 1.5 from its equation alone: sum max(s/2 - tau, 0)^2 = 1."""
    x = s / 2
    low, high = x.max(axis=-1, keepdims=True) - 1, x.max(axis=-1, keepdims=True)
    for _ in range(80):
        tau = (low + high) / 2
        too_low = np.sum(np.maximum(x - tau, 0) ** 2, axis=-1, keepdims=True) > 1
        low, high = np.where(too_low, tau, low), np.where(too_low, high, tau)
    return np.maximum(x - low, 0) ** 2


@pytest.mark.parametrize("width", [1, 2, 7, 101, 1009])
@pytest.mark.parametrize("spread", [1e-3, 1, 30, 1e4])
def test_entmax15_solves_its_equation(width, spread):
    s = spread * np.random.default_rng(1).standard_normal((30, width))
    s[:, : width // 3] = s[:, :1]
    alpha = run("entmax15", s)
    np.testing.assert_allclose(alpha, bisected(s), rtol=0, atol=1e-12)
    np.testing.assert_allclose(alpha.sum(axis=-1), 1, rtol=0, atol=1e-12)


def test_entmax15_by_hand():
    np.testing.assert_allclose(run("entmax15", [[7.0, 7.0, 7.0]]), 1 / 3, rtol=1e-15)
    np.testing.assert_array_equal(run("entmax15", [[2.0, 0.0, -3.0]]), [[1, 0, 0]])
    # max(x, 0) = root of r^2 + (r - g)^2 = 1, g half the gap of 1
    root = (0.5 + np.sqrt(2 - 0.25)) / 2
    np.testing.assert_allclose(run("entmax15", [[1.0, 0.0]]), [[root**2, 1 - root**2]], rtol=1e-15)


def test_a_sink_is_one_more_key_whose_weight_is_dropped():
    rng = np.random.default_rng(2)
    s, sink, dalpha, dlse = (rng.standard_normal(n) for n in ((5, 3, 7, 11), 3, (5, 3, 7, 11), (5, 3, 7)))
    wide = np.concatenate([s, np.broadcast_to(sink[:, None, None], (5, 3, 7, 1))], axis=-1)
    alpha, grads = run("softmax_sink", s, dalpha, sink)
    all_alpha, all_grads = run("softmax", wide, np.pad(dalpha, [(0, 0)] * 3 + [(0, 1)]))
    np.testing.assert_allclose(alpha, all_alpha[..., :-1], rtol=1e-14)
    np.testing.assert_allclose(grads["s"], all_grads["s"][..., :-1], rtol=0, atol=1e-15)
    np.testing.assert_allclose(grads["sink"], all_grads["s"][..., -1].sum(axis=(0, 2)), rtol=1e-13)

    op = ar.ops["layer.logsumexp"]
    (lse, tape), (all_lse, all_tape) = op.forward(s, sink), op.forward(wide)
    grads, all_grads = op.backward(dlse, **tape), op.backward(dlse, **all_tape)
    np.testing.assert_allclose(lse, all_lse, rtol=0, atol=1e-15)
    np.testing.assert_allclose(grads["s"], all_grads["s"][..., :-1], rtol=0, atol=1e-15)
    np.testing.assert_allclose(grads["sink"], all_grads["s"][..., -1].sum(axis=(0, 2)), rtol=1e-13)
    np.testing.assert_allclose(alpha, np.exp(s - lse[..., None]), rtol=1e-14)


def test_a_sink_of_minus_infinity_is_no_sink():
    rng = np.random.default_rng(3)
    s, d = rng.standard_normal((2, 5, 7))
    s[1], s[2, ::2] = -np.inf, -np.inf
    alpha, grads = run("softmax_sink", s, d, -np.inf)
    plain, plain_grads = run("softmax", s, d)
    np.testing.assert_array_equal(alpha, plain)
    np.testing.assert_array_equal(grads["s"], plain_grads["s"])
    assert grads["sink"] == 0
    op = ar.ops["layer.logsumexp"]
    np.testing.assert_array_equal(op.forward(s, -np.inf)[0], op.forward(s)[0])


def test_in_a_dead_row_the_sink_takes_all():
    s = np.full((1, 3), -np.inf)
    op = ar.ops["normalize.softmax_sink"]
    (alpha, lse), tape = op.forward(s, 4.5)
    np.testing.assert_array_equal(alpha, 0)
    np.testing.assert_array_equal(tape["sink_alpha"], 1)
    assert lse == 4.5
    assert ar.ops["layer.logsumexp"].forward(s, 4.5)[0] == 4.5


def test_off_by_one_is_a_sink_at_zero():
    s, d = np.random.default_rng(4).standard_normal((2, 3, 5, 7)).astype(np.float32)
    (alpha, grads), (want, want_grads) = (
        run("softmax_off_by_one", s, d),
        run("softmax_sink", s, d, np.float32(0)),
    )
    np.testing.assert_array_equal(alpha, want)
    np.testing.assert_array_equal(grads["s"], want_grads["s"])
    (_, lse), _ = ar.ops["normalize.softmax_off_by_one"].forward(s)
    assert lse.dtype == np.float32
    np.testing.assert_allclose(lse, np.log1p(np.exp(s).sum(axis=-1)), rtol=1e-6)


def test_sigmoid_is_exact_in_its_tails():
    s = np.array([[-1e4, -700.0, -40.0, 0.0, 40.0, 700.0, 1e4, np.inf]])
    alpha, grads = run("sigmoid", s, np.ones_like(s))
    np.testing.assert_allclose(alpha[0], [0, np.exp(-700), np.exp(-40), 0.5, 1, 1, 1, 1], rtol=1e-15)
    np.testing.assert_allclose(
        grads["s"][0], [0, np.exp(-700), np.exp(-40), 0.25, np.exp(-40), np.exp(-700), 0, 0], rtol=1e-15
    )


@pytest.mark.parametrize("name", SIMPLEX)
def test_weights_sum_to_one_whatever_is_added_to_the_row(name):
    s, d = np.random.default_rng(5).standard_normal((2, 5, 7))
    alpha, grads = run(name, s, d)
    np.testing.assert_allclose(alpha.sum(axis=-1), 1, rtol=1e-15)
    assert alpha.min() >= 0
    np.testing.assert_allclose(grads["s"].sum(axis=-1), 0, atol=1e-15)
    np.testing.assert_allclose(run(name, s + 64), alpha, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_a_forbidden_key_is_no_key(name):
    s, d = np.random.default_rng(6).standard_normal((2, 5, 7))
    wide, wide_d = (np.insert(x, [0, 3, 7], fill, axis=-1) for x, fill in ((s, -np.inf), (d, 3.25)))
    (alpha, grads), (wide_alpha, wide_grads) = run(name, s, d), run(name, wide, wide_d)
    forbidden = np.isneginf(wide[0])
    np.testing.assert_allclose(wide_alpha[:, ~forbidden], alpha, rtol=1e-15)
    np.testing.assert_allclose(wide_grads["s"][:, ~forbidden], grads["s"], rtol=0, atol=1e-15)
    np.testing.assert_array_equal(wide_alpha[:, forbidden], 0)
    np.testing.assert_array_equal(wide_grads["s"][:, forbidden], 0)


@pytest.mark.parametrize("name", NAMES)
def test_permuting_the_keys_permutes_the_weights(name):
    rng = np.random.default_rng(7)
    s, d = rng.integers(-2, 3, (5, 7)) / 2, rng.standard_normal((5, 7))
    p = rng.permutation(7)
    (alpha, grads), (moved, moved_grads) = run(name, s, d), run(name, s[:, p], d[:, p])
    np.testing.assert_allclose(moved, alpha[:, p], rtol=0, atol=1e-15)
    np.testing.assert_allclose(moved_grads["s"], grads["s"][:, p], rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_equal_scores_have_equal_weights(name):
    alpha = run(name, np.full((1, 7), 0.1))
    np.testing.assert_array_equal(alpha, alpha[0, 0])


@pytest.mark.parametrize("name", NAMES)
def test_a_dead_row_has_weights_and_gradients_of_zero(name):
    alpha, grads = run(name, np.full((2, 5), -np.inf), np.random.default_rng(8).standard_normal((2, 5)))
    np.testing.assert_array_equal(alpha, 0)
    np.testing.assert_array_equal(grads["s"], 0)


@pytest.mark.parametrize("name", NAMES)
def test_no_keys(name):
    alpha, grads = run(name, np.zeros((3, 0)), np.zeros((3, 0)))
    assert alpha.shape == grads["s"].shape == (3, 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_nan_stays_and_stays_in_its_row(name):
    s, d = np.random.default_rng(9).standard_normal((2, 3, 5))
    clean, clean_grads = run(name, s, d)
    s[1, 2] = np.nan
    alpha, grads = run(name, s, d)
    poisoned = np.arange(5) == 2 if name == "sigmoid" else np.ones(5, bool)
    for got, want in ((alpha, clean), (grads["s"], clean_grads["s"])):
        np.testing.assert_array_equal(got[[0, 2]], want[[0, 2]])
        np.testing.assert_array_equal(np.isnan(got[1]), poisoned)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_scores_are_finite(name, dtype):
    s = np.array([[1e4, -1e4, 9999.5, 0], [-1e4, -1e4, -1e4, -1e4], [1e4, -np.inf, 1e4, 1e4]], dtype)
    alpha, grads = run(name, s, np.random.default_rng(10).standard_normal(s.shape).astype(dtype), sink=10)
    assert alpha.dtype == grads["s"].dtype == dtype
    assert np.isfinite(alpha).all()
    assert np.isfinite(grads["s"]).all()
    if name in SIMPLEX:
        np.testing.assert_allclose(alpha.sum(axis=-1), 1, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_complex_step_and_backward_are_transposes_at_forbidden_keys_too(name):
    op, rng = ar.ops[f"normalize.{name}"], np.random.default_rng(12)
    inputs = op.example(seed=11, leading=(2,))
    inputs["s"][:, 0, 1:3] = -np.inf
    tangents = {key: rng.standard_normal(x.shape) for key, x in inputs.items()}
    d = rng.standard_normal(inputs["s"].shape)
    _, tape = op.forward(**inputs)
    if has_lse(op.module):
        dlse = rng.standard_normal(d.shape[:-1])
        alpha_moves, lse_moves = ar.jvp(op, inputs, tangents)
        grads, along = op.backward((d, dlse), **tape), np.sum(d * alpha_moves) + np.sum(dlse * lse_moves)
    else:
        grads, along = op.backward(d, **tape), np.sum(d * ar.jvp(op, inputs, tangents))
    np.testing.assert_allclose(sum(np.sum(grads[key] * tangents[key]) for key in grads), along, rtol=1e-13)
