"""JAX's own attention against `ar.attention`, at the resolution of its softmax; and its autodiff, in float64.

jax.nn.dot_product_attention computes its softmax in float32, whatever the inputs are. With the unit roundoff u of
float32, n keys and scores up to S in absolute value, a weight is then off by at most the factor 1 + eps with

    eps = (6 S + n + 9) u:

rounding the score and subtracting the maximum puts 3 S u into the exponent, exp itself is good to 2 u, and both count
in the numerator and again in the sum, whose n terms, and the division, add (n + 1) u. The rest of it is float64, and
everything else follows: o is off by eps sum_j alpha_ij |v_j|, dv likewise, and ds_ij = alpha_ij (dalpha_ij -
sum_l alpha_il dalpha_il), where weights enter twice and the sum is rounded in float32 as well, by at most
3 eps alpha_ij (|dalpha_ij| + sum_l alpha_il |dalpha_il|), which goes on into dq, dk and the gradient of the bias.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agreement import agree, relative
from index_notation import ALONE, PAIRS, RANDOM, case, whole

import attention_ref as ar
from attention_ref.op.arrays import reduce_to

pytestmark = pytest.mark.jax

U = 2.0**-24
LOWEST = -0.7 * np.finfo(np.float32).max


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def draw(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


# jax.nn.dot_product_attention


def turned(x):
    """[b h i d] to JAX's [b i h d], and back."""
    return np.swapaxes(x, 1, 2)


def by_jax(q, k, v, do, bias=None, **options):
    """o, lse and the gradients, in our layout."""
    leaves = {"q": turned(q), "k": turned(k), "v": turned(v)} | ({} if bias is None else {"bias": bias})

    def attention(leaves):
        return jax.nn.dot_product_attention(*(leaves[n] for n in "qkv"), leaves.get("bias"), **options)

    o, pull = jax.vjp(attention, leaves)
    (grads,) = pull(jnp.asarray(turned(do)))
    _, lse = jax.nn.dot_product_attention(turned(q), turned(k), turned(v), bias, return_residual=True, **options)
    found = {"o": turned(o), "lse": np.swapaxes(lse, 1, 2)}
    return found | {f"d{name}": np.asarray(g) if name == "bias" else turned(g) for name, g in grads.items()}


def by_us(q, k, v, do, **options):
    a = ar.attention(q, k, v, **options)
    return a, {"o": a.o, "lse": a.lse} | {f"d{name}": g for name, g in a.backward(do).items()}


def bounds(a, q, k, v, do, bias=None, scale=None):
    """How far each result may be off, by the float32 softmax alone."""
    heads = k.shape[1]
    k, v = (np.repeat(x, q.shape[1] // heads, axis=1) for x in (k, v))
    scores = np.where(a.alpha > 0, next(a.tape[name] for name in ("biased", "scaled") if name in a.tape), 0)
    largest = np.max(np.abs(scores))
    eps = (6 * largest + scores.shape[-1] + 9) * U
    dalpha = np.abs(do @ np.swapaxes(v, -1, -2))
    ds = 3 * eps * a.alpha * (dalpha + np.sum(a.alpha * dalpha, axis=-1, keepdims=True))
    scaled = abs(q.shape[-1] ** -0.5 if scale is None else scale) * ds
    found = {
        "o": eps * a.alpha @ np.abs(v),
        "lse": np.full(a.lse.shape, eps + (np.abs(a.lse) + 1) * U),
        "dq": scaled @ np.abs(k),
        "dk": gathered(np.swapaxes(scaled, -1, -2) @ np.abs(q), heads),
        "dv": gathered(eps * np.swapaxes(a.alpha, -1, -2) @ np.abs(do), heads),
    }
    return found if bias is None else found | {"dbias": reduce_to(ds, bias.shape)}


def gathered(x, heads):
    return x.reshape(x.shape[0], heads, -1, *x.shape[2:]).sum(2)


def close(found, wanted, bounds):
    """Every result is within its bound, and float64's rounding where no weight is."""
    for name, bound in bounds.items():
        error = np.abs(found[name] - wanted[name])
        assert (error <= bound + 1e-12 * np.max(np.abs(wanted[name]))).all(), f"{name}: {np.max(error / bound)} bounds"


def inputs(seed=0, heads=6, queries=5, keys=11):
    return draw(seed, (2, 6, queries, 7), (2, heads, keys, 7), (2, heads, keys, 7), (2, 6, queries, 7))


def mask(shape):
    keep = np.random.default_rng(len(shape)).random(shape) < 0.6
    keep[..., 0] = True
    return keep


def bias(shape):
    return np.where(mask(shape), draw(len(shape), shape)[0], -np.inf)


LENGTHS = np.array([7, 11], np.int32)
OPTIONS = {
    "plain": ({}, {}),
    "scale": ({"scale": 0.6}, {"scale": 0.6}),
    "negative scale": ({"scale": -0.6}, {"scale": -0.6}),
    "causal": ({"is_causal": True}, {"causal": True, "align": "top_left"}),
    "mask": ({"mask": mask((2, 1, 5, 11))}, {"allowed": mask((2, 1, 5, 11))}),
    "mask of each head": ({"mask": mask((1, 6, 5, 11))}, {"allowed": mask((1, 6, 5, 11))}),
    "bias": ({"bias": draw(1, (2, 6, 5, 11))[0]}, {"bias": draw(1, (2, 6, 5, 11))[0]}),
    "bias for all": ({"bias": bias((1, 1, 5, 11))}, {"bias": bias((1, 1, 5, 11))}),
    "window": ({"local_window_size": (1, 3)}, {"window": (1, 3), "align": "top_left"}),
    "window of one number": ({"local_window_size": 2}, {"window": (2, 2), "align": "top_left"}),
    "causal window": (
        {"local_window_size": (2, 0), "is_causal": True},
        {"window": (2, 0), "align": "top_left", "causal": True},
    ),
    "key lengths": ({"key_value_seq_lengths": LENGTHS}, {"k_lengths": LENGTHS[:, None]}),
    "all": (
        {"bias": bias((2, 6, 5, 11)), "is_causal": True, "key_value_seq_lengths": LENGTHS, "scale": 0.6},
        {"bias": bias((2, 6, 5, 11)), "causal": True, "align": "top_left", "k_lengths": LENGTHS[:, None], "scale": 0.6},
    ),
}


GROUPED = [(name, 2) for name in OPTIONS] + [(name, heads) for name in ("plain", "all") for heads in (1, 6)]


@pytest.mark.parametrize(("name", "heads"), GROUPED)
def test_dot_product_attention(name, heads):
    theirs, ours = OPTIONS[name]
    arrays = inputs(0, heads)
    a, wanted = by_us(*arrays, **ours)
    shown = {key: ours[key] for key in ("bias", "scale") if key in ours}
    close(by_jax(*arrays, **theirs), wanted, bounds(a, *arrays, **shown))


@pytest.mark.parametrize(("queries", "keys"), [(5, 11), (11, 5), (7, 7)])
@pytest.mark.parametrize("options", [{"causal": True}, {"window": (3, 1)}], ids=str)
def test_everything_positional_is_top_left(options, queries, keys):
    arrays = inputs(1, 2, queries, keys)
    theirs = by_jax(*arrays, is_causal="causal" in options, local_window_size=options.get("window"))
    alike = {"align": "top_left", "empty_row": "uniform"}
    a, wanted = by_us(*arrays, **options, **alike)
    alive = ~np.isneginf(a.lse)
    limits = {name: bound for name, bound in bounds(a, *arrays).items() if name != "lse"}
    close(theirs, wanted, limits)
    close({"lse": theirs["lse"][alive]}, {"lse": a.lse[alive]}, {"lse": bounds(a, *arrays)["lse"][alive]})
    if queries != keys:
        _, other = by_us(*arrays, **options, **alike | {"align": "bottom_right"})
        assert relative(theirs["o"], other["o"]) > 0.01


def test_its_softmax_is_float32():
    """When this fails, JAX has become better than the docstring above says."""
    arrays = inputs(2)
    (_, wanted), found = by_us(*arrays), by_jax(*arrays)
    assert all(1e-9 < relative(found[name], x) < 1e-6 for name, x in wanted.items())


def test_a_row_with_nothing_allowed_is_uniform():
    """The weights are 1/S there, as constants: dv has its share. That is empty_row="uniform", but for the lse."""
    arrays = inputs(3)
    keep = mask((5, 11))
    keep[1] = False
    theirs = by_jax(*arrays, mask=keep[None, None])
    a, wanted = by_us(*arrays, allowed=keep, empty_row="uniform")
    limits = bounds(a, *arrays)
    np.testing.assert_allclose(theirs["lse"][:, :, 1], LOWEST, rtol=U)
    assert np.isneginf(a.lse[:, :, 1]).all()
    close(theirs, wanted, {name: bound for name, bound in limits.items() if name != "lse"})
    _, zero = by_us(*arrays, allowed=keep)
    assert relative(theirs["dv"], zero["dv"]) > 0.01


def test_a_query_beyond_its_length_is_zero():
    """Unlike any other row with nothing allowed; it has no share in any gradient."""
    arrays = inputs(4)
    lengths = np.array([3, 5], np.int32)
    theirs = by_jax(*arrays, query_seq_lengths=lengths)
    a, wanted = by_us(*arrays, q_lengths=lengths[:, None])
    close(theirs, wanted, {name: bound for name, bound in bounds(a, *arrays).items() if name != "lse"})
    assert not theirs["o"][0, :, 3:].any()
    np.testing.assert_allclose(theirs["lse"][0, :, 3:], LOWEST, rtol=U)


def test_a_bias_of_minus_infinity_alone_is_nan():
    """The softmax of such a row as it is: empty_row="nan"."""
    arrays = inputs(5)
    forbidding = bias((1, 1, 5, 11))
    forbidding[..., 1, :] = -np.inf
    theirs = by_jax(*arrays, bias=forbidding)["o"]
    ours = ar.attention(*arrays[:3], bias=forbidding, empty_row="nan").o
    assert np.array_equal(np.isnan(theirs), np.isnan(ours))
    assert np.isnan(ours[:, :, 1]).all()


def test_a_masked_nan_key_leaks_into_their_gradient():
    """Theirs selects in the forward pass, and multiplies 0 with the NaN in the backward pass; ours does neither."""
    q, k, v, do = inputs(6)
    keep = mask((1, 1, 5, 11))
    keep[..., 4] = False
    _, clean = by_us(q, k, v, do, allowed=keep)
    k[:, :, 4] = np.nan
    theirs, (_, ours) = by_jax(q, k, v, do, mask=keep), by_us(q, k, v, do, allowed=keep)
    assert np.isfinite(theirs["o"]).all()
    assert np.isnan(theirs["dq"]).all()
    agree(ours, clean)


def test_their_lse_has_no_gradient_and_ours_has():
    q, k, v, _ = (jnp.asarray(turned(x)) for x in inputs(7))
    (dq,) = jax.vjp(lambda q: jax.nn.dot_product_attention(q, k, v, return_residual=True)[1], q)[1](jnp.ones((2, 5, 6)))
    assert not np.any(dq)
    a = ar.attention(*(turned(np.asarray(x)) for x in (q, k, v)))
    assert a.backward(None, dlse=np.ones(a.lse.shape))["q"].any()


# The same by jax.vjp, in float64, with every option


def written_out(found, cotangents):
    """(o, alpha, lse) and the gradient of every floating-point input."""
    given = {name: jnp.asarray(x) for name, x in found.given.items()}
    leaves = {name: jnp.asarray(found.ours[name]) for name in "qkv"}
    leaves |= {name: x for name, x in given.items() if x.dtype.kind == "f"}

    def attention(leaves):
        return whole(jnp, *(leaves[n] for n in "qkv"), given | leaves, found.chosen)

    results, pull = jax.vjp(attention, leaves)
    (grads,) = pull(tuple(jnp.asarray(d) for d in cotangents))
    return dict(zip(("o", "alpha", "lse"), results, strict=True)) | {f"d{name}": g for name, g in grads.items()}


def check_options(chosen, **layout):
    found = case(chosen, **layout)
    a = ar.attention(**found.ours)
    do, dalpha, dlse = draw(0, a.o.shape, a.alpha.shape, a.lse.shape)
    ours = {"o": a.o, "alpha": a.alpha, "lse": a.lse}
    ours |= {f"d{name}": g for name, g in a.backward(do, dlse=dlse, dalpha=dalpha).items()}
    theirs = written_out(found, (do, dalpha, dlse))
    assert set(theirs) == set(ours)
    agree(ours, theirs)


@pytest.mark.parametrize("chosen", ALONE, ids=" ".join)
@pytest.mark.parametrize("heads", [1, 2, 6])
def test_every_option(chosen, heads):
    check_options(chosen, heads=heads, align=[-2, 4])


@pytest.mark.parametrize("chosen", PAIRS, ids=" ".join)
def test_every_pair_of_options(chosen):
    check_options(chosen)


@pytest.mark.parametrize("chosen", RANDOM, ids=" ".join)
def test_many_options_together(chosen):
    check_options(chosen, align="top_left")
