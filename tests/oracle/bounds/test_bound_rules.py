"""The bounds of every rule, against kernels that compute its score in another order, and of what is broadcast."""

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import make_vjp
from autograd.extend import defvjp, primitive
from kernels import ROUNDING, f32, plain, scores

import attention_ref as ar
from attention_ref.oracle.bounds.bound import bound, terms
from attention_ref.oracle.bounds.precision import MODELS, find
from attention_ref.oracle.bounds.running_error import exact
from attention_ref.pipeline.emulate import KERNEL, emulate


@primitive
def rounded(x, low):
    return low(x)


@primitive
def rounded_back(x, low):
    return x


defvjp(rounded, lambda answer, x, low: lambda g: g, argnums=(0,))
defvjp(rounded_back, lambda answer, x, low: lambda g: low(g), argnums=(0,))


def t(x):
    return anp.swapaxes(x, -1, -2)


def length(x):
    return anp.sqrt(anp.sum(x * x, axis=-1))


def pairs(q, k):
    row, column = anp.zeros_like(k[..., None, :, :1]), anp.zeros_like(q[..., :, None, :1])
    return anp.concatenate([q[..., :, None, :] + row, k[..., None, :, :] + column], axis=-1)


def hidden_as_one(q, k, w_q, w_k, b, w_s):
    joined = anp.concatenate([w_q, w_k], axis=1)
    return anp.tanh(pairs(q, k) @ joined.T + b) @ w_s


def reversed_widths(q, k, w, b):
    joined = pairs(q, k)[..., ::-1]
    return anp.einsum("...ijy,y->...ij", joined, w[::-1]) + b


REORDERED = {
    "dot": lambda q, k: anp.sum(q[..., :, None, ::-1] * k[..., None, :, ::-1], axis=-1),
    "general": lambda q, k, w: q @ (w @ t(k)),
    "additive": hidden_as_one,
    "concat_linear": reversed_widths,
    "concat_tanh_sum": lambda q, k, w, b: anp.sum(anp.tanh(pairs(q, k) @ w.T + b)[..., ::-1], axis=-1),
    "positional_concat": lambda q, k, w, b: anp.concatenate([q, k], axis=-1) @ w.T + b,
    "key_norm": lambda q, k: (q @ t(k)) * length(k)[..., None, :],
    "cosine": lambda q, k: (q @ t(k)) / (length(q)[..., :, None] * length(k)[..., None, :]),
}
SPREADS = {"plain": (1, 1), "wide": (5, 1), "saturated": (20, 2), "narrow": (1e-3, 1e-3)}


def normalized(s):
    e = anp.exp(s - np.max(plain(s), axis=-1, keepdims=True))
    z = anp.sum(e, axis=-1, keepdims=True)
    return e / z, (anp.log(z) + np.max(plain(s), axis=-1, keepdims=True))[..., 0]


def attend(rule, score, low, inputs):
    """o, alpha, lse by autograd's NumPy, in the dtype of the inputs, with `low` where tensor cores round."""
    inputs = dict(inputs)
    v = inputs.pop("v")
    pipeline = ar.rules[rule].module
    s = score(**inputs)
    if pipeline.own_scale:
        s = s * s.dtype.type(pipeline.own_scale(plain(inputs["q"])))
    alpha, lse = normalized(rounded_back(s, low))
    if pipeline.own_normalize == "double_softmax":
        alpha, lse = normalized(alpha)[0], None
    return rounded(alpha, low) @ v, alpha, lse


def definition(rule):
    score = ar.rules[rule].module.score
    return lambda **inputs: score.definition(anp, **inputs)


def score_name(rule):
    return ar.rules[rule].module.score.__name__.rpartition(".")[2]


def both_ways(rule, score, low, inputs, cotangents, dtype):
    """(results, gradients) of one implementation."""
    names = list(inputs)
    values = [np.asarray(inputs[name], dtype) for name in names]
    given = [np.asarray(d, dtype) for d in cotangents]

    def present(*values):
        return [x for x in attend(rule, score, low, dict(zip(names, values, strict=True))) if x is not None]

    def flat(*values):
        return anp.concatenate([anp.reshape(x, (-1,)) for x in present(*values)])

    results = dict(zip(("o", "alpha", "lse"), present(*values), strict=False))
    along = np.concatenate([d.ravel() for d in given[: len(results)]])
    with np.errstate(all="ignore"):
        gradients = {name: make_vjp(flat, n)(*values)[0](along) for n, name in enumerate(names)}
    return results, gradients


def largest_scores(rule, model, number, spread):
    """{result: the largest score} of two implementations in low precision."""
    low, rng = ROUNDING[model], np.random.default_rng(number)
    sizes = {"i": 5, "j": 11, "d": 7, "c": 7 if score_name(rule) in ("dot", "key_norm", "cosine") else 3, "e": 3}
    drawn = ar.rules[rule].example(seed=number, leading=(2,), **fitting(rule, sizes))
    wide, narrow = SPREADS[spread]
    inputs = {name: low(np.asarray(x * (wide if name in "qk" else narrow), f32)) for name, x in drawn.items()}
    shapes = [(2, 5, 3), (2, 5, 11), (2, 5)]
    cotangents = [low(rng.normal(size=shape).astype(f32)) for shape in shapes]
    want, gradients = both_ways(rule, definition(rule), lambda x: x, inputs, cotangents, np.float64)
    given = dict(zip(("o", "alpha", "lse"), cotangents, strict=True))
    if "lse" not in want:
        given.pop("lse")
    delta = bound(rule, inputs, {}, given, model)
    found = {}
    for score in (definition(rule), REORDERED[score_name(rule)]):
        results, got = both_ways(rule, score, low, inputs, cotangents, f32)
        for name in results:
            stored = results[name] if name == "lse" else low(results[name])
            found.setdefault(name, []).append(scores(stored, want[name], delta[name]).max())
        for name in got:
            found.setdefault("d" + name, []).append(scores(low(got[name]), gradients[name], delta[name]).max())
    return {name: max(x) for name, x in found.items()}


def fitting(rule, sizes):
    letters = {axis.text for argument in ar.rules[rule].signature.arguments for axis in argument.axes}
    return {axis: n for axis, n in sizes.items() if axis in letters}


@pytest.mark.parametrize("rule", ar.rules)
@pytest.mark.parametrize("model", ["f32", "bf16/f32acc", "f16/f32acc"])
@pytest.mark.parametrize("spread", SPREADS)
def test_no_order_of_work_exceeds_the_bound(rule, model, spread):
    for number in range(3):
        for name, score in largest_scores(rule, model, number, spread).items():
            assert score <= 1, f"{name}: {score}, seed {number}"


def narrowed(x, low):
    return low(x.astype(f32)) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x


def widened(x):
    return x.astype(np.float64) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x


NORMALIZED = [{"normalize": name} for name in ("softmax_off_by_one", "entmax15", "sigmoid", "sparsemax")]


@pytest.mark.parametrize("rule", ar.rules)
@pytest.mark.parametrize("model", ["f32", "f16/f32acc"])
def test_every_option_of_every_rule_is_bounded(rule, model):
    rule = ar.rules[rule]
    low, dtype = ROUNDING[model], {"f32": "float32", "f16/f32acc": "float16"}[model]
    for variant in range(len(rule.variants)):
        for options in [{}, *NORMALIZED]:
            drawn = rule.example(seed=variant, variant=variant, leading=(2,)) | options
            if not (options and ("sink" in drawn or "empty_row" in drawn)):
                one_call(rule, drawn, low, dtype, model)


def one_call(rule, drawn, low, dtype, model):
    given = {name: narrowed(x, low) for name, x in drawn.items() if x is not None}
    wide = ar.attention(**{name: widened(x) for name, x in given.items()}, rule=rule)
    scaled = rule.module.own_scale or "softcap" in given or "scale" in given
    twice = ["alpha"] * ("dropout" in given) + ["ds"] * bool(scaled)
    stages = [stage for stage in KERNEL if stage not in twice]  # a kernel rounds these once, not at every stage
    ours = emulate(dtype, stages)(**given, rule=rule)
    rng = np.random.default_rng(3)
    shapes = {name: getattr(wide, name).shape for name in ("o", "lse", "alpha") if getattr(wide, name) is not None}
    cotangents = {name: low(rng.normal(size=shape).astype(f32)) for name, shape in shapes.items()}
    want = wide.backward(*(cotangents.get(name) for name in ("o", "lse", "alpha")))
    got = ours.backward(*(cotangents.get(name) for name in ("o", "lse", "alpha")))
    delta = bound(rule, given, {}, cotangents, model)
    assert set(delta) == set(shapes) | set(want)
    for name, limit in delta.items():
        exactly, ours_is = (getattr(wide, name), getattr(ours, name)) if name in shapes else (want[name], got[name])
        assert limit.shape == exactly.shape, name
        kept = ours_is if name == "lse" else low(np.asarray(ours_is, f32))
        assert scores(kept, exactly, limit).max(initial=0) <= 1, (name, given.keys())


def dot_textbook(q, k, v, *, bias, softcap, alibi_slopes, sink, scale, distance, group):
    heads = np.arange(q.shape[-3]) // group
    k, v = k[..., heads, :, :], v[..., heads, :, :]
    s = (q @ t(k)) * scale
    s = softcap * anp.tanh(s / softcap)
    s = s + bias - alibi_slopes[..., None, None] * distance
    column = sink[..., None, None] + 0 * s[..., :1]
    alpha, lse = normalized(anp.concatenate([s, column], axis=-1))
    return alpha[..., :-1] @ v, alpha[..., :-1], lse


@pytest.mark.parametrize("model", ["f32", "bf16/f32acc", "f16/f32acc"])
def test_what_is_broadcast_is_bounded_in_its_own_shape(model):
    low, rng = ROUNDING[model], np.random.default_rng(7)
    shapes = {
        "q": (3, 4, 5, 7), "k": (2, 11, 7), "v": (3, 2, 11, 3), "bias": (4, 1, 11), "softcap": (4, 1, 1),
        "alibi_slopes": (4,), "sink": (4,), "scale": (3, 1, 1, 1),
    }  # fmt: skip
    inputs = {name: low(rng.normal(size=shape).astype(f32)) for name, shape in shapes.items()}
    inputs["softcap"] = low(np.abs(inputs["softcap"]) + f32(2))
    distance = np.abs(np.arange(5)[:, None] - np.arange(11)).astype(f32)
    cotangents = [low(rng.normal(size=shape).astype(f32)) for shape in [(3, 4, 5, 3), (3, 4, 5, 11), (3, 4, 5)]]

    def both(dtype):
        values = [np.asarray(x, dtype) for x in inputs.values()]

        def flat(*values):
            given = dict(zip(inputs, values, strict=True))
            results = dot_textbook(**given, distance=np.asarray(distance, dtype), group=2)
            return anp.concatenate([anp.reshape(x, (-1,)) for x in results])

        along = np.concatenate([np.asarray(d, dtype).ravel() for d in cotangents])
        return {name: make_vjp(flat, n)(*values)[0](along) for n, name in enumerate(inputs)}

    tensors = {name: inputs[name] for name in "qkv"}
    options = {name: x for name, x in inputs.items() if name not in tensors} | {"align": "top_left"}
    given = dict(zip(("o", "alpha", "lse"), cotangents, strict=True))
    delta = bound("dot", tensors, options, given, model)
    want, got = both(np.float64), both(f32)
    for name, shape in shapes.items():
        assert delta[name].shape == shape
        assert np.isfinite(delta[name]).all()
        assert (delta[name] < 0.5 * np.abs(want[name]).max()).all(), name
        assert scores(low(got[name]), want[name], delta[name]).max() < 1, name
        assert scores(-got[name], want[name], delta[name]).max() > 1, name


def test_a_sum_that_may_overflow_has_no_bound():
    q = np.full((1, 2), 1e25, f32)
    assert np.isinf(bound("dot", {"q": q, "k": q, "v": q})["lse"]).all()


def test_a_row_in_which_nothing_is_allowed_is_exact():
    q = np.ones((2, 3), f32)
    allowed = np.array([[True, True], [False, False]])
    delta = bound("dot", {"q": q, "k": q, "v": q}, {"allowed": allowed}, {"o": q})
    assert all(delta[name][1].max() == 0 for name in ("o", "lse", "alpha", "q"))


def test_a_masked_key_brings_nothing_to_the_bound_be_it_nan():
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(5, 3)).astype(f32) for _ in range(3))
    allowed = np.tril(np.ones((5, 5), bool))
    plainly = bound("dot", {"q": q, "k": k, "v": v}, {"allowed": allowed}, {"o": q})
    k[-1], v[-1] = np.nan, np.inf
    poisoned = bound("dot", {"q": q, "k": k, "v": v}, {"allowed": allowed}, {"o": q})
    assert all(np.isfinite(x).all() for x in poisoned.values())
    np.testing.assert_allclose(poisoned["o"][:-1], plainly["o"][:-1], rtol=1e-12)


def test_the_terms_add_up_to_the_bound():
    rng = np.random.default_rng(0)
    inputs = {name: ROUNDING["bf16/f32acc"](rng.normal(size=(7, 5)).astype(f32)) for name in "qkv"}
    whole = bound("dot", inputs, {}, {"o": inputs["q"]}, "bf16/f32acc")
    parts = terms("dot", inputs, {}, {"o": inputs["q"]}, "bf16/f32acc")
    assert list(parts) == ["accumulation", "operands", "output", "underflow"]
    for name in whole:
        together = sum(part[name] for part in parts.values())
        np.testing.assert_allclose(together, whole[name], rtol=0.05)
    assert (parts["output"]["o"] < parts["operands"]["o"]).all()
    assert (parts["underflow"]["o"] < 1e-30).all()


def test_what_has_no_bound_says_so():
    with pytest.raises(TypeError, match=r"no error bound for numpy\.sin"):
        np.sin(exact(np.ones(2), MODELS["f32"]))
    with pytest.raises(TypeError, match=r"no error bound for numpy\.sort"):
        np.sort(exact(np.ones(2), MODELS["f32"]))
    with pytest.raises(ar.OptionError, match="there is no precision model 'f23'"):
        find("f23")
