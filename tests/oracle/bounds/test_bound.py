"""The bounds hold for every correct kernel, are not much wider than they must be, and break when they are wrong."""

from dataclasses import replace

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import make_vjp
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from kernels import CORRECT, ROUNDING, Kernel, Run, f32, pairwise, plain, scores

import attention_ref as ar
from attention_ref.oracle.bounds import normalizers, precision, running_error
from attention_ref.oracle.bounds.bound import bound


def peaked(rng, q, k, v):
    return 6 * q, k, v


def tied(rng, q, k, v):
    return q, np.broadcast_to(k[..., :1, :], k.shape), v


def cancelling(rng, q, k, v):
    sign = np.where(np.arange(v.shape[-2]) % 2 == 0, 1, -1)[:, None]
    big = 30 * np.where(np.arange(q.shape[-1]) % 2 == 0, 1, -1)
    return q + 30, k + big, sign * (100 + v)


def huge(rng, q, k, v):
    return q * 2.0**7, k * 2.0**-7, v * 2.0**9


def tiny(rng, q, k, v):
    return q * 2.0**-7, k * 2.0**-7, v * 2.0**-12


def subnormal(rng, q, k, v):
    return q, k, v * 2.0**-140


def correlated(rng, q, k, v):
    return q + 3 * q[..., :1, :], k * 0.1 + 2 * k[..., :1, :], v * 0.05 + v[..., :1, :]


def integers(rng, q, k, v):
    return tuple(np.round(2 * x) / 8 for x in (q, k, v))


def rising(rng, q, k, v):
    return np.abs(q), np.abs(k) * np.linspace(0, 2, k.shape[-2])[:, None], v


def far(rng, q, k, v):
    return q + 4, k + np.linspace(-8, 8, k.shape[-2])[:, None], v


FAMILIES = {
    f.__name__: f for f in (peaked, tied, cancelling, huge, tiny, subnormal, correlated, integers, rising, far)
} | {"gaussian": lambda rng, q, k, v: (q, k, v)}
OPTIONS = ("allowed", "bias", "softcap", "sink", "dropout")


def reference(inputs, options, cotangents):
    """Results and gradients in float64 by autograd, from the textbook's formula and nothing of this package."""
    names = [name for name in (*inputs, *options) if name not in ("allowed", "dropout")]
    given = inputs | options
    allowed = options.get("allowed", np.True_)

    def results(*values):
        at = dict(zip(names, values, strict=True))
        s = anp.einsum("...id,...jd->...ij", at["q"], at["k"]) * at["scale"]
        if "softcap" in at:
            s = at["softcap"] * anp.tanh(s / at["softcap"])
        s = s + at.get("bias", 0.0)
        sink = at["sink"][..., None, None] if "sink" in at else -np.inf
        m = np.max(np.where(allowed, plain(s), -np.inf), axis=-1, keepdims=True)
        m = np.maximum(m, plain(sink))
        m = np.where(np.isneginf(m), 0, m)
        e = anp.where(allowed, anp.exp(anp.where(allowed, s - m, 0)), 0)
        z = anp.sum(e, axis=-1, keepdims=True) + (anp.exp(sink - m) if "sink" in at else 0.0)
        dead = z == 0
        alpha = e / anp.where(dead, 1, z)
        kept, p = options.get("dropout", (np.True_, 0))
        o = (alpha * (kept / (1 - p))) @ at["v"]
        lse = anp.where(dead, -np.inf, anp.log(anp.where(dead, 1, z)) + m)[..., 0]
        return o, lse, alpha

    def flat(*values):
        return anp.concatenate([anp.reshape(anp.where(np.isfinite(plain(x)), x, 0), (-1,)) for x in results(*values)])

    values = [np.asarray(given[name], np.float64) for name in names]
    along = np.concatenate([np.asarray(cotangents[name], np.float64).ravel() for name in ("o", "lse", "alpha")])
    gradients = {}
    for n, name in enumerate(names):
        with np.errstate(over="ignore"):  # cosh² in autograd's derivative of tanh
            gradients[name] = make_vjp(flat, n)(*values)[0](along)
    return dict(zip(("o", "lse", "alpha"), results(*values), strict=True)), gradients


def draw(family, model, seed, options=(), queries=None, keys=None, width=None):
    rng = np.random.default_rng(seed)
    heads, d, e = 2, width or int(rng.choice([2, 5, 16])), int(rng.choice([1, 3, 7]))
    queries, keys = queries or int(rng.choice([1, 5, 11])), keys or int(rng.choice([1, 2, 13, 37]))
    rounded = ROUNDING[model]
    q, k, v = (rng.normal(size=(heads, n, x)) for n, x in ((queries, d), (keys, d), (keys, e)))
    q, k, v = (rounded(np.asarray(x, f32)) for x in FAMILIES[family](rng, q, k, v))
    pairs = (heads, queries, keys)
    offered = {
        "allowed": rng.random(pairs) < 0.7,
        "bias": rounded(rng.normal(size=pairs).astype(f32)),
        "softcap": f32(rng.choice([0.5, 4, 32])),
        "sink": rng.normal(size=heads).astype(f32),
        "dropout": (rng.random(pairs) < 0.75, 0.25),
    }
    inputs = {"q": q, "k": k, "v": v}
    options = {"scale": f32(2.0**-2)} | {name: offered[name] for name in options}
    sizes = {"o": (heads, queries, e), "lse": (heads, queries), "alpha": pairs}
    cotangents = {name: rounded(rng.normal(size=size).astype(f32)) for name, size in sizes.items()}
    return inputs, options, cotangents


def run(kernel, model, inputs, options, cotangents):
    """What a kernel returns, by name; sums over what was broadcast are taken here."""
    options = dict(options)
    if "sink" in options:
        options["sink"] = options["sink"][:, None]
    with np.errstate(all="ignore"):
        going = Run(kernel, model)
        results = going.forward(**inputs, **options)
        gradients = going.backward(cotangents["o"], cotangents["lse"], cotangents["alpha"])
    return results, gradients


def judged(kernels, model, inputs, options, cotangents, judge=None, **kwargs):
    """{result: the scores of all kernels}."""
    want, gradients = reference(inputs, options, cotangents)
    delta = bound("dot", inputs, options, cotangents, judge or model, **kwargs)
    found = {}
    for kernel in kernels:
        results, got = run(kernel, model, inputs, options, cotangents)
        for name in results:
            found.setdefault(name, []).append(scores(results[name], want[name], delta[name]).ravel())
        for name in gradients:
            key = "d" + name
            found.setdefault(key, []).append(scores(got[name], gradients[name], delta[name]).ravel())
    return {name: np.concatenate(parts) for name, parts in found.items()}


MODELS = ("f32", "tf32", "bf16/f32acc", "f16/f32acc", "fp8/f32acc")
BY_OPERATION = [
    replace(CORRECT["two passes"], by_operation=True),
    replace(CORRECT["two passes, weights normalized first, D from alpha"], by_operation=True),
    replace(CORRECT["two passes, reversed sums, scale in q"], by_operation=True),
]
CASES = st.tuples(
    st.sampled_from(list(FAMILIES)),
    st.sampled_from([*MODELS, "bf16", "f16"]),
    st.sets(st.sampled_from(OPTIONS)).map(sorted),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
counted = {"checks": 0}


def soundness(case):
    family, model, options, number, flush = case
    kernels = BY_OPERATION if model in ("bf16", "f16") else CORRECT.values()
    allowing = replace(precision.MODELS[model], flush=flush)
    found = judged(kernels, model, *draw(family, model, number, options), judge=allowing)
    for name, score in found.items():
        counted["checks"] += score.size
        assert not (score > 1).any(), f"{name}: {score.max()} with {model}, {family}, {options}, seed {number}"
    return found


def fuzz(examples):
    @seed(0)
    @settings(max_examples=examples, deadline=None, database=None)
    @given(CASES)
    def run_all(case):
        soundness(case)

    counted["checks"] = 0
    run_all()
    return counted["checks"]


def test_no_correct_kernel_exceeds_the_bound():
    assert fuzz(60) > 30_000


@pytest.mark.slow
def test_no_correct_kernel_exceeds_the_bound_in_many_checks():
    """`fuzz(2_000)` makes 1.5 million."""
    assert fuzz(500) > 300_000


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("model", [*MODELS, "bf16", "f16"])
def test_every_family_in_every_model(family, model):
    soundness((family, model, (), 1, False))
    soundness((family, model, OPTIONS, 2, True))


@pytest.mark.parametrize(("model", "least"), [("bf16/f32acc", 0.3), ("f16/f32acc", 0.3), ("tf32", 0.1), ("f32", 0.01)])
def test_the_bound_is_not_much_wider_than_what_happens(model, least):
    found = [soundness((family, model, (), n, False)) for n, family in enumerate(FAMILIES)]
    for name in ("o", "alpha", "dq", "dk", "dv"):
        assert max(one[name].max() for one in found) > least, name


def test_a_kernel_that_flushes_subnormal_numbers_is_within_the_bound_that_allows_it():
    for number in range(10):
        case = draw("subnormal", "f32", number, ("bias", "sink"))
        found = judged(BY_OPERATION, "flushed", *case, judge="f32")
        assert max(score.max() for score in found.values()) <= 1
    strict = replace(precision.MODELS["f32"], flush=False)
    assert judged(BY_OPERATION, "flushed", *case, judge=strict)["o"].max() > 1


def test_rescaling_at_every_key_with_an_exp_five_ulps_off_is_within_the_bound_and_needs_it(monkeypatch):
    kernels = [replace(kernel, sloppy=4.9) for kernel in (Kernel(tile=1), Kernel(tile=7), Kernel(splits=5, base2=True))]
    inputs, options, cotangents = draw("gaussian", "f32", 1, queries=3, keys=127, width=1)
    steps = np.arange(127, dtype=f32)[:, None] / 64
    case = inputs | {"q": np.ones_like(inputs["q"]), "k": steps + 0 * inputs["k"]}, options, cotangents
    assert judged(kernels, "f32", *case)["alpha"].max() <= 1
    monkeypatch.setattr(normalizers, "overtaken", lambda value, error, allowed: np.zeros(value.shape))
    assert judged(kernels, "f32", *case)["alpha"].max() > 1


@pytest.mark.parametrize("family", FAMILIES)
def test_this_package_is_within_its_own_bound_in_float64(family):
    for number, options in ((1, ()), (2, OPTIONS)):
        inputs, options, cotangents = draw(family, "f32", number, options)
        wide = {
            name: x.astype(float) if getattr(x, "dtype", bool) == f32 else x for name, x in (inputs | options).items()
        }
        want, gradients = reference(inputs, options, cotangents)
        ours = ar.attention(**wide, rule="dot")
        got = ours.backward(*(cotangents[name] for name in ("o", "lse", "alpha")))
        delta = bound("dot", inputs, options, cotangents, "f64")
        for name in want:
            assert scores(getattr(ours, name), want[name], delta[name]).max() <= 1, name
        for name in gradients:
            assert scores(got[name], gradients[name], delta[name]).max() <= 1, name


def test_the_statistical_band_is_narrower_and_holds():
    case = draw("gaussian", "f32", 3, ("sink",), queries=11, keys=499, width=64)
    wide = judged(CORRECT.values(), "f32", *case)
    band = judged(CORRECT.values(), "f32", *case, statistical=True)
    for name in ("o", "lse", "alpha", "dq", "dv"):
        assert wide[name].max() < band[name].max() < 1


def exceeded(fault, model, options=(), family="gaussian", **sizes):
    kernel = Kernel(fault=frozenset([fault]))
    found = judged([kernel], model, *draw(family, model, 5, options, **sizes))
    return {name for name, score in found.items() if (score > 1).any()}


@pytest.mark.parametrize("model", ["f32", "bf16/f32acc", "f16/f32acc"])
@pytest.mark.parametrize(
    ("fault", "broken"),
    [("last key", {"o", "lse", "dq"}), ("no D", {"dq", "dk"}), ("no scale", {"dq", "dk"})],
)
def test_a_wrong_kernel_exceeds_the_bound(fault, broken, model):
    assert broken <= exceeded(fault, model, queries=11, keys=127, width=16)


def test_a_normalizer_that_is_off_by_a_thousandth_exceeds_the_bound_in_float32():
    assert {"o", "lse"} <= exceeded("normalizer", "f32", queries=11, keys=127, width=64)
    assert "lse" in exceeded("normalizer", "bf16/f32acc", queries=11, keys=127, width=64)


def test_without_the_underflow_terms_correct_kernels_exceed_the_bound(monkeypatch):
    monkeypatch.setattr(precision.Model, "lost", lambda model, form: 0.0)
    case = draw("subnormal", "f32", 0, queries=11, keys=13, width=5)
    assert (judged(CORRECT.values(), "f32", *case)["o"] > 1).any()


def test_without_the_growth_of_sums_correct_kernels_exceed_the_bound(monkeypatch):
    inputs, options, cotangents = draw("gaussian", "f32", 0, queries=2, keys=3, width=4093)
    inputs |= {"q": np.full_like(inputs["q"], 1.1), "k": np.full_like(inputs["k"], 1.1)}
    case = inputs, options, cotangents
    kernels = [CORRECT["two passes"]]
    assert judged(kernels, "f32", *case)["lse"].max() < 1
    monkeypatch.setattr(precision.Model, "gamma", lambda model, n: np.minimum(n, 2) * model.u)
    assert judged(kernels, "f32", *case)["lse"].max() > 1


def test_pairwise_sums_are_better_than_their_bound():
    case = draw("gaussian", "f32", 0, queries=5, keys=499, width=64)
    assert judged([Kernel(total=pairwise)], "f32", *case)["dv"].max() < 0.1


def test_only_what_is_exact_has_no_error():
    model = precision.find("f32")
    x, factor = running_error.exact(np.arange(6.0).reshape(2, 3), model), running_error.constant(0.3, model)
    assert not x.error.any()
    assert factor.error == pytest.approx(2 * 0.3 * model.u, rel=1e-6)
    assert ((x * factor).error[x.value > 0] > 0).all()
    ones, zeros = np.ones((2, 3)), np.zeros((2, 3))
    off = running_error.Near(ones, ones, zeros, np.broadcast_to(0.5, (2, 3)), model)
    assert (off.error == 0.5).all()
    assert (off.upper == 1.5).all()
    assert ((x @ off.T).error[0] > 1.4).all()


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [
        ("...id,...jd->...ij", ((2, 7, 5), (2, 3, 5))),
        ("...id,dc,...jc->...ij", ((2, 7, 5), (5, 3), (2, 11, 3))),
        ("...ijd,...ijd->...ij", ((7, 3, 5), (7, 3, 5))),
        ("ab,b->ba", ((3, 5), (5,))),
    ],
)
def test_einsum_has_a_bound(subscripts, shapes):
    """Sound in float32, in NumPy's own order of sums, and no wider than a bound on that many roundings."""
    rng, model = np.random.default_rng(8), precision.find("f32")
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    near = np.einsum(subscripts, *(running_error.exact(x, model) for x in arrays))
    want = np.einsum(subscripts, *(x.astype(np.float64) for x in arrays))
    np.testing.assert_allclose(near.value, want, rtol=1e-14, atol=1e-14)
    error = np.abs(np.einsum(subscripts, *arrays) - want)
    assert (error <= near.error).all()
    sizes = np.einsum(subscripts, *(np.abs(x).astype(np.float64) for x in arrays))
    assert (near.error <= 32 * 2.0**-24 * sizes + 1e-30).all()
