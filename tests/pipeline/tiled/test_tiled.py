"""Attention in tiles says what it says on whole matrices, for every rule and option, in memory that grows with L."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attention_ref as ar
from attention_ref.pipeline.tiled import blas, memory, online_softmax
from attention_ref.pipeline.tiled.passes import RowFactors
from attention_ref.score import dot

TILED = [(name, n) for name, rule in ar.rules.items() for n in range(len(rule.variants))]


def refused(rule, inputs):
    kind = inputs.get("normalize", rule.module.own_normalize)
    return kind in ("sparsemax", "entmax15", "double_softmax") or not rule.module.pairwise


def same(got, want, tol=1e-12):
    """Equal to rounding at the scale of the whole array, NaN where NaN."""
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    scale = np.max(np.abs(want), initial=1, where=np.isfinite(want))
    np.testing.assert_allclose(got, want, rtol=tol, atol=tol * scale)


def agree(inputs, rule, tile, seed=0, tol=1e-12, **more):
    """Tiles against whole matrices, forward, and backward from random cotangents of o and lse."""
    rng = np.random.default_rng(seed)
    plain, tiled = ar.attention(**inputs, rule=rule), ar.attention(**inputs, rule=rule, tile=tile, **more)
    assert tiled.alpha is None
    same(tiled.o, plain.o, tol)
    do, dlse = rng.standard_normal(plain.o.shape), None
    if plain.lse is not None:
        same(tiled.lse, plain.lse, tol)
        dlse = np.where(np.isneginf(plain.lse), 0, rng.standard_normal(plain.lse.shape))
    want, got = plain.backward(do, dlse), tiled.backward(do, dlse)
    assert got.keys() == want.keys()
    for name in want:
        same(got[name], want[name], tol)


@pytest.mark.parametrize(("name", "variant"), TILED)
@pytest.mark.parametrize(("leading", "tile"), [((), 2), ((2, 3), (3, 4)), ((3,), 100)], ids=str)
def test_every_rule_and_variant(name, variant, leading, tile):
    rule = ar.rules[name]
    inputs = rule.example(1, leading=leading, variant=variant)
    if refused(rule, inputs):
        with pytest.raises(ar.OptionError, match=rf"^{name}: .*; leave tile= out$"):
            ar.attention(**inputs, rule=rule, tile=tile)
    else:
        agree(inputs, rule, tile)


@st.composite
def problems(draw):
    """Any rule that has tiles, with any options that go together, and a tile that need not divide anything."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    heads, groups = draw(st.sampled_from([(4, 4), (4, 2), (6, 3), (3, 1), (1, 1)]))
    i, j = draw(st.integers(1, 13)), draw(st.integers(1, 13))
    rule = draw(st.sampled_from(["scaled_dot", "dot", "general", "additive", "concat_tanh_sum", "cosine", "key_norm"]))
    inputs = ar.rules[rule].example(0, i=i, j=j)
    d, c = inputs["q"].shape[-1], inputs["k"].shape[-1]
    for name, shape in {"q": (heads, i, d), "k": (groups, j, c), "v": (groups, j, 5)}.items():
        inputs[name] = rng.standard_normal((*draw(st.sampled_from([(2,), (2,), (1,), ()])), *shape))
    yes = st.booleans()
    bias = rng.standard_normal(draw(st.sampled_from([(), (j,), (i, 1), (heads, 1, 1), (1, 1, i, j), (2, heads, i, j)])))
    normalize = draw(st.sampled_from(["softmax", "softmax", "softmax_off_by_one", "sigmoid"]))
    options = {
        "causal": True,
        "window": draw(st.sampled_from([(2, 1), (None, 0), (3, None)])),
        "bias": bias,
        "scale": draw(st.sampled_from([0.7, rng.standard_normal((heads, 1, 1)), rng.standard_normal((i, j))])),
        "softcap": 1.7,
        "alibi_slopes": rng.random(heads),
        "relative_table": rng.standard_normal((heads, 8)),
        "k_lengths": rng.integers(0, j + 1, (2, 1)),
        "q_lengths": rng.integers(0, i + 1, (2, 1)),
        "allowed": rng.random((1, j)) < 0.6,
        "dropout": (rng.random((heads, i, j)) < 0.6, 0.4),
    }
    chosen = {name: x for name, x in options.items() if draw(yes)}
    if normalize == "softmax" and draw(yes):
        chosen["sink"] = rng.standard_normal(heads)
    elif normalize == "softmax":
        chosen["empty_row"] = draw(st.sampled_from(["zero", "uniform", "nan"]))
    align = draw(st.sampled_from(["bottom_right", "top_left", -2, 3]))
    tile = draw(st.one_of(st.integers(1, 15), st.tuples(st.integers(1, 15), st.integers(1, 15))))
    return rule, inputs | chosen | {"normalize": normalize, "align": align}, tile


@settings(max_examples=120, deadline=None, derandomize=True)
@given(problems())
def test_any_options_and_tiles_that_do_not_divide(problem):
    rule, inputs, tile = problem
    agree(inputs, rule, tile, tol=1e-11)


def poisoned(shape, dtype):
    """What memory that was used before may hold at worst: no bit of it is to reach a result."""
    return np.full(shape, 0xFF, np.uint8).repeat(np.dtype(dtype).itemsize, axis=-1).view(dtype)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(problems())
def test_nothing_is_read_that_was_not_written(problem):
    rule, inputs, tile = problem
    with patch.object(memory, "empty", poisoned):
        agree(inputs, rule, tile, tol=1e-11)


def drawn(*shape, seed=0, dtype="float64"):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for _ in range(4)]


def test_float32_stays_float32_and_no_argument_is_written_over():
    q, k, v, do = drawn(2, 37, 5, dtype="float32")
    kept = [x.copy() for x in (q, k, v, do)]
    for x in (q, k, v, do):
        x.flags.writeable = False
    a = ar.attention(q, k, v, tile=8)
    grads = a.backward(do)
    assert {x.dtype for x in (a.o, a.lse, *grads.values())} == {np.dtype("float32")}
    for x, before in zip((q, k, v, do), kept, strict=True):
        np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(a.backward(do)["q"], grads["q"])


@pytest.mark.parametrize("options", [{}, {"sink": np.array(0.3)}], ids=str)
def test_what_is_masked_stays_out_even_if_it_is_nan(options):
    q, k, v, do = drawn(3, 23, 5)
    allowed = np.random.default_rng(1).random((23, 23)) < 0.6
    allowed[:, [3, 17]] = allowed[[4, 11]] = False
    clean = ar.attention(q, k, v, allowed=allowed, tile=(5, 7), **options)
    want = clean.backward(do)
    for wild in (np.nan, np.inf):
        for x in (q, k, v, do):
            x[:, [3, 17] if x is k or x is v else [4, 11]] = wild
        got = ar.attention(q, k, v, allowed=allowed, tile=(5, 7), **options)
        np.testing.assert_array_equal(got.o, clean.o)
        for name, gradient in got.backward(do).items():
            same(gradient, want[name])


@pytest.mark.parametrize("kept", [0, 2**27])
@pytest.mark.parametrize("options", [{}, {"causal": True}, {"causal": True, "sink": np.nan}, {"k_lengths": 9}], ids=str)
def test_a_nan_reaches_what_it_reaches_on_whole_matrices(options, kept, monkeypatch):
    monkeypatch.setattr("attention_ref.pipeline.tiled.plan.KEPT_BYTES", kept)
    q, k, v, do = drawn(3, 23, 5)
    q[:, 11] = np.nan
    options = {name: np.asarray(x) if name in ("sink", "k_lengths") else x for name, x in options.items()}
    whole, tiled = (ar.attention(q, k, v, tile=tile, **options) for tile in (None, (5, 7)))
    np.testing.assert_allclose(tiled.o, whole.o, rtol=1e-12)
    want, got = whole.backward(do), tiled.backward(do)
    for name in "qkv":
        np.testing.assert_array_equal(np.isnan(got[name]), np.isnan(want[name]), err_msg=name)


@pytest.mark.parametrize(("size", "small"), [(1, True), (400, False)])
def test_small_scores_need_no_shift_and_large_ones_get_it(size, small, monkeypatch):
    shifts = []
    monkeypatch.setattr(
        online_softmax, "next_shift", lambda *args, of=online_softmax.next_shift: shifts.append(of(*args)) or shifts[-1]
    )
    q, k, v, _ = drawn(3, 61, 5)
    agree({"q": size * q, "k": k, "v": v}, "scaled_dot", (7, 16))
    assert any(x.any() for x in shifts) is not small


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("sizes", list(permutations([0.1, -0.1, 0, 300, -300], 3)), ids=str)
def test_the_shift_follows_small_and_large_scores_in_any_order(sizes, masked):
    """Rows whose tiles stay near 0, fall far below it or rise far above it: nothing overflows, nothing vanishes."""
    q, k, v, _ = drawn(2, 24, 5)
    towards = np.abs(q) * np.repeat([[1], [5]], 12, axis=0)
    inputs = {"q": towards, "k": np.abs(k) * np.repeat(sizes, 8)[:, None], "v": v}
    allowed = np.random.default_rng(1).random((24, 24)) < 0.8
    agree(inputs | ({"allowed": allowed} if masked else {}), "scaled_dot", (5, 8), tol=1e-11)


def test_the_shift_follows_the_keys_of_the_own_head():
    q, k, v, _ = drawn(2, 1, 24, 5)
    towards = {"q": np.abs(q), "k": np.abs(k) * np.array([0.1, -3000])[:, None, None, None], "v": v}
    with ThreadPoolExecutor(1) as in_order:
        agree(towards, "scaled_dot", (5, 8), tol=1e-11, executor=in_order)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("dtype", "score", "large", "small"), [("float32", 20, 1e35, 1e-36), ("float64", 170, 1e290, 1e-290)]
)
def test_values_and_cotangents_near_the_ends_of_the_range(dtype, score, large, small, masked):
    """The shift may stay behind the largest score: e v does not overflow for it, nor do times its factor underflow.

    An exponential is off by as many units as its score is large.
    """
    _, _, v, do = drawn(4, 8, 5, dtype=dtype)
    q, k = np.ones((4, 4, 1), dtype), np.zeros((4, 8, 1), dtype)
    k[:, 4:] = score
    options = {"rule": "dot"} | ({"allowed": np.arange(8) != 1} if masked else {})
    tol = 64 * score * np.finfo(dtype).eps
    for v_size, do_size in ((large, 1), (1, small)):
        values, cotangents = (v * v_size).astype(dtype), (do[:, :4] * do_size).astype(dtype)
        whole, tiled = (ar.attention(q, k, values, tile=tile, **options) for tile in (None, (4, 4)))
        np.testing.assert_allclose(tiled.o, whole.o, rtol=tol, atol=tol * v_size)
        want, got = whole.backward(cotangents), tiled.backward(cotangents)
        for name, size in {"v": do_size, "k": do_size * v_size, "q": do_size * v_size * score}.items():
            np.testing.assert_allclose(got[name], want[name], rtol=tol, atol=tol * size, err_msg=name)


@pytest.mark.parametrize("kept", [0, 2**27])
@pytest.mark.parametrize("wild", [1000, 1e25, 1e-38])
def test_a_row_has_its_bits_from_what_it_sees(wild, kept, monkeypatch):
    """What stands behind the causal diagonal, and the other queries, decide nothing about a row, not even its shift."""
    monkeypatch.setattr("attention_ref.pipeline.tiled.plan.KEPT_BYTES", kept)
    q, k, v, do = drawn(2, 61, 5, dtype="float32")
    before = ar.attention(q, k, v, causal=True, tile=(16, 8))
    dq = before.backward(do)["q"]
    for x in (q, k, v, do):
        x[:, 21:] *= wild
    for x in (q, do):
        x[:, :20] *= wild
    after = ar.attention(q, k, v, causal=True, tile=(16, 8))
    np.testing.assert_array_equal(after.o[:, 20], before.o[:, 20])
    np.testing.assert_array_equal(after.lse[:, 20], before.lse[:, 20])
    np.testing.assert_array_equal(after.backward(do)["q"][:, 20], dq[:, 20])


@pytest.mark.parametrize("wild", [0.0, 1e-44, 1e-30, 1e30, np.inf, np.nan], ids=str)
def test_a_factor_goes_to_a_row_as_the_row_alone_decides(wild):
    """Whether it is taken with the cotangents or with the weights; a look at all rows at once changes no bit."""
    rng = np.random.default_rng(3)
    do, e = rng.standard_normal((4, 5, 7)).astype("f"), rng.random((4, 5, 9)).astype("f")
    row_dot, lse, m = (rng.standard_normal((4, 5, 1)).astype("f") for _ in range(3))
    lse[0, 1] += 80

    def taken(do):
        factors = RowFactors(do, row_dot, lse)
        weights = factors.weights(e, m)
        return np.broadcast_to(weights, e.shape), factors.do, factors.row_dot

    others = do.copy()
    others[:, [0, 3, 4]] = wild
    for got, want in zip(taken(others), taken(do), strict=True):
        np.testing.assert_array_equal(got[:, 1:3], want[:, 1:3])


def test_empty_rows_are_refused_by_name():
    q, k, v, _ = drawn(2, 11, 3)
    allowed = np.ones((2, 11, 11), bool)
    allowed[1, 7] = False
    with pytest.raises(ar.OptionError, match=r"^scaled_dot: query 7 of \(1,\) may attend to no key$"):
        ar.attention(q, k, v, allowed=allowed, empty_row="raise", tile=4)


@pytest.mark.parametrize("sizes", [(0, 5), (5, 0), (0, 0)], ids=str)
def test_no_queries_or_no_keys(sizes):
    i, j = sizes
    inputs = {"q": np.ones((2, i, 3)), "k": np.ones((2, j, 3)), "v": np.ones((2, j, 3))}
    with patch.object(memory, "empty", poisoned):
        agree(inputs, "scaled_dot", 4)


@pytest.mark.parametrize("tile", [0, -1, True, 2.0, (3,), (3, 0), "big", (2, 2, 2)], ids=str)
def test_a_tile_that_cannot_be_meant(tile):
    q, k, v, _ = drawn(5, 3)
    with pytest.raises(ar.OptionError, match=r"^scaled_dot: tile is 'auto', a number of positions"):
        ar.attention(q, k, v, tile=tile)


def test_alpha_has_no_cotangent_in_tiles():
    q, k, v, do = drawn(7, 3)
    a = ar.attention(q, k, v, tile=4)
    with pytest.raises(ar.OptionError, match=r"dalpha was given, and tiles do not keep alpha"):
        a.backward(do, dalpha=np.ones((7, 7)))
    assert "in tiles" in repr(a)


def test_auto_takes_whole_matrices_while_they_are_small_and_where_tiles_are_impossible():
    q, k, v, _ = drawn(64, 4)
    assert ar.attention(q, k, v, tile="auto").alpha is not None
    q, k, v, _ = drawn(4, 700, 2)
    assert ar.attention(q, k, v, tile="auto").alpha is None
    assert ar.attention(q, k, v, tile="auto", normalize="sparsemax").alpha is not None


def test_complex_step_and_autograd_go_through_tiles():
    q, k, v, t = drawn(2, 13, 3)
    inputs, options = {"q": q, "k": k, "v": v}, {"causal": True, "tile": (4, 5)}
    o, _, lse = ar.jvp(ar.rules["scaled_dot"], inputs | options, {"k": t})
    want = ar.jvp(ar.rules["scaled_dot"], inputs | {"causal": True}, {"k": t})
    same(o, want[0])
    same(lse, want[2])
    from autograd import grad

    def loss(q, tile):
        a = ar.attention(q, k, v, causal=True, tile=tile)
        return (a.o * t).sum() + (a.lse * t[..., 0]).sum()

    def along(q, tile):
        return (grad(loss)(q, tile) * v).sum()

    same(grad(loss)(q, (4, 5)), grad(loss)(q, None))
    same(grad(along)(q, (4, 5)), grad(along)(q, None), 1e-11)


@pytest.mark.parametrize(("options", "most"), [({"causal": True}, 0.6), ({"window": (16, 0)}, 0.3)], ids=str)
def test_tiles_that_a_mask_empties_are_not_computed(options, most, monkeypatch):
    scored, forward = [], dot.forward

    def counting(q, k):
        scored.append(np.prod(q.shape[:-1]) * k.shape[-2])
        return forward(q, k)

    monkeypatch.setattr(dot, "forward", counting)
    q, k, v, _ = drawn(2, 256, 4)
    ar.attention(q, k, v, tile=(16, 64), **options)
    assert sum(scored) < most * 2 * 256 * 256


def test_segments_and_prefixes_are_skipped_too(monkeypatch):
    ids = np.repeat(np.arange(8), 32)
    q, k, v, _ = drawn(256, 4)
    inputs = {"q": q, "k": k, "v": v, "q_segments": ids, "k_segments": ids}
    agree(inputs, "scaled_dot", (32, 32))
    calls, forward = [], dot.forward
    monkeypatch.setattr(dot, "forward", lambda q, k: calls.append(q.shape[-2] * k.shape[-2]) or forward(q, k))
    ar.attention(**inputs, tile=(32, 32))
    assert sum(n for n in calls if n > 4) == 256 * 32  # without those that find how much a pair takes


def peak(length, **options):
    """The most bytes that forward and backward hold beyond their inputs."""
    q, k, v, do = drawn(length, 8, dtype="float32")
    ar.attention(q[:64], k[:64], v[:64], tile=16).backward(do[:64])
    memory.release()
    tracemalloc.start()
    ar.attention(q, k, v, causal=True, tile=(64, 128), **options).backward(do)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def test_memory_grows_with_the_length_and_not_with_its_square(monkeypatch):
    monkeypatch.setattr("attention_ref.pipeline.tiled.plan.KEPT_BYTES", 0)
    short, long = peak(1024), peak(4096)
    assert long < 6 * short
    assert long < 4096 * 4096 * 4 / 8


def test_masks_that_are_used_again_take_no_square_either(monkeypatch):
    monkeypatch.setattr("attention_ref.pipeline.tiled.plan.KEPT_BYTES", 0)
    q, k, v, _ = drawn(4096, 3, dtype="float32")
    tracemalloc.start()
    a = ar.attention(q, k, v, allowed=ar.masks.dilated(2), tile=1024)
    held = tracemalloc.get_traced_memory()[0] - a.o.nbytes
    tracemalloc.stop()
    assert held < 4096 * 4096 * 3 / 4


class OneBuffer(ar.masks.Mask):
    """Says what it says in an array that the next question is answered in too."""

    answer = np.empty(0, bool)

    def allows(self, i, j, p):
        self.answer = self.answer if self.answer.shape == (i.size, j.size) else np.empty((i.size, j.size), bool)
        return np.not_equal((7 * i + 3 * j) % 5, 0, out=self.answer)


@pytest.mark.parametrize("kept", [0, 2**27])
def test_a_mask_may_answer_in_one_buffer(kept, monkeypatch):
    monkeypatch.setattr("attention_ref.pipeline.tiled.plan.KEPT_BYTES", kept)
    q, k, v, _ = drawn(2, 13, 3)
    with ThreadPoolExecutor(1) as executor:
        agree({"q": q, "k": k, "v": v, "allowed": OneBuffer()}, "scaled_dot", (4, 4), executor=executor)


def test_the_same_bits_whoever_computes_them(monkeypatch):
    q, k, v, do = drawn(3, 61, 5, dtype="float32")
    bias = drawn(61, 61, dtype="float32")[0]
    found = []
    for workers in (1, 2, 5):
        with ThreadPoolExecutor(workers) as executor:
            a = ar.attention(q, k, v, bias=bias, tile=8, executor=executor)
            found.append({"o": a.o, "lse": a.lse} | a.backward(do))
    for other in found[1:]:
        for name, x in found[0].items():
            np.testing.assert_array_equal(other[name], x, err_msg=name)


class Limits:
    """What threadpoolctl gives: a controller whose limits are restored."""

    threads = 4

    def limit(self, limits):
        self.before, self.threads = self.threads, limits
        return self

    def restore_original_limits(self):
        self.threads = self.before


def test_blas_gets_its_threads_back_after_the_last_of_several_calls(monkeypatch):
    fake = Limits()
    monkeypatch.setattr(blas, "controller", lambda: fake)
    outer, inner = blas.one_thread(), blas.one_thread()
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert fake.threads == 1
    inner.__exit__(None, None, None)
    assert fake.threads == 4
    with pytest.raises(ZeroDivisionError), blas.one_thread():
        raise ZeroDivisionError
    assert fake.threads == 4


def test_inputs_from_disk_and_results_to_disk(tmp_path):
    def on_disk(name, x):
        out = np.memmap(tmp_path / name, x.dtype, "w+", shape=x.shape)
        out[...] = x
        return out

    q, k, v, do = drawn(2, 29, 3)
    files = [on_disk(name, x) for name, x in zip("qkv", (q, k, v), strict=True)]
    outs = {name: on_disk(f"d{name}", np.full_like(q, np.nan)) for name in "qkv"}
    o = on_disk("o", np.full_like(q, np.nan))
    for tile in (None, 8):
        a = ar.attention(*files, tile=tile, out=o)
        grads = a.backward(do, out=outs)
        want = ar.attention(q, k, v)
        same(np.array(o), want.o)
        for name, x in want.backward(do).items():
            same(np.array(outs[name]), x)
            assert grads[name] is outs[name]


@pytest.mark.parametrize("over", ["q", "k", "v", "do"])
def test_a_gradient_may_be_written_over_what_it_is_made_from(over):
    q, k, v, do = drawn(2, 37, 5)
    plain = ar.attention(q, k, v)
    want = plain.backward(do)
    mine = {"q": q.copy(), "k": k.copy(), "v": v.copy(), "do": do.copy()}
    a = ar.attention(mine["q"], mine["k"], mine["v"], tile=8)
    got = a.backward(mine["do"], out={"q": mine[over]})
    same(mine[over], want["q"])
    for name, x in want.items():
        same(got[name], x)


def test_a_result_of_another_shape_or_name_is_refused():
    q, k, v, do = drawn(7, 3)
    with pytest.raises(ar.ShapeError, match=r"^scaled_dot: out= for o must be an array of shape \(7, 3\)"):
        ar.attention(q, k, v, tile=4, out=np.zeros((3, 7)))
    with pytest.raises(ar.OptionError, match=r"^scaled_dot: out= names 'w', which has no gradient"):
        ar.attention(q, k, v, tile=4).backward(do, out={"w": np.zeros(3)})
