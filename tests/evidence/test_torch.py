"""The second implementation: every rule and mechanism agrees with PyTorch, forward and every gradient."""

import itertools

import numpy as np
import pytest
import torch
from agreement import relative
from torch_models import MECHANISMS, PIPELINE, RULES, multi_head_layer

import attention_ref as ar

pytestmark = pytest.mark.torch

TOLERANCE = 1e-12
MODELS = RULES | MECHANISMS
OPS = {**ar.rules, **ar.mechanisms}
LEADS = ((2, 1), (3,), (2, 3), (), (1, 3))

# The options that tests/conformance/test_library_torch.py has, in index notation.
OTHERS = {"q_lengths", "k_lengths", "q_segments", "k_segments", "alibi_slopes", "relative_table", "dropout", "causal"}

CANCELS = {
    ("concat_linear", "q"): "a query adds the same to a whole row of scores",
    ("concat_linear", "b"): "so does the bias",
    ("multi_head_self_attention", "b_k"): "q·b_k is the same for every key",
    ("multi_head_attention", "b_k"): "q·b_k is the same for every key",
}


def test_every_rule_has_a_counterpart():
    assert sorted(set(ar.rules) - set(RULES)) == []
    assert sorted(set(RULES) - set(ar.rules)) == []


def test_every_mechanism_has_a_counterpart():
    assert sorted(set(ar.mechanisms) - set(MECHANISMS)) == []
    assert sorted(set(MECHANISMS) - set(ar.mechanisms)) == []


def variants(op):
    """A mechanism's own variants, of the options written here; a rule is taken bare, for they are one for all."""
    return ({},) if op.name in RULES else [v for v in op.variants if not OTHERS & {*asked(v)}]


def asked(variant):
    return *variant.get("include", ()), *variant.get("options", ())


def optional_sets(op, variant):
    """Which optional arguments to give: the variant's, none, all, each alone; a decoder's weights stay its own."""
    base = tuple(variant.get("include", ()))
    optional = [name for name, argument in op.arguments.items() if argument.optional and takes(op.name, name)]
    if variant.get("options", {}).get("normalize") == "double_softmax":
        optional = [name for name in optional if name != "sink"]
    if "decoder" in op.options:
        lengths = [name for name in optional if name.endswith("lengths")]
        return [base, *((*base, name) for name in lengths), (*base, *lengths)]
    return list(dict.fromkeys([base, (), tuple(optional), *((name,) for name in optional)]))


def takes(name, argument):
    if name in RULES:
        return argument in PIPELINE and (name, argument) != ("double_softmax", "sink")
    return argument not in OTHERS


def leading_axes(op):
    """The same leading axes for every argument, then two ways in which they broadcast."""
    names = [name for name, argument in op.arguments.items() if argument.leading]
    if not names:
        return [()]
    turns = (dict(zip(names, itertools.islice(itertools.cycle(LEADS), at, None), strict=False)) for at in (0, 2))
    return [(), (3,), (2, 3), *turns]


def draw(op, variant, include, leading, seed):
    rng = np.random.default_rng(seed)
    inputs = op.signature.draw(rng, variant.get("sizes"), leading, include=include) | variant.get("options", {})
    if "allowed" in inputs:
        inputs["allowed"][..., :1, :] = False
    for name in inputs:
        if name.endswith("lengths") and inputs[name].size > 1:
            inputs[name].flat[0] = 0
    return inputs


def cases(op):
    seeds = itertools.count()
    for variant in variants(op):
        for include, leading, _ in itertools.product(optional_sets(op, variant), leading_axes(op), range(2)):
            yield draw(op, variant, include, leading, next(seeds))


def as_torch(inputs):
    tensors = {}
    for name, x in inputs.items():
        drawn = isinstance(x, (np.ndarray, np.generic))
        tensors[name] = torch.tensor(x, requires_grad=x.dtype.kind == "f") if drawn else x
    return tensors


def results(value):
    return value if isinstance(value, tuple) else (value,)


def gradient_difference(name, argument, got, want, cotangent):
    """As `relative`; where torch's gradient is zero or cancels to rounding, both count against the cotangent."""
    if want is None:
        want = np.zeros_like(got)
    size = np.max(np.abs(want), initial=0)
    if size <= TOLERANCE * cotangent:
        assert size == 0 or (name, argument) in CANCELS, f"{name}: d{argument} cancels to {size:.1e}"
        assert got.shape == want.shape
        assert got.dtype == want.dtype
        return np.max(np.abs(got), initial=0) / cotangent if np.all(np.isfinite(got)) else np.inf
    return relative(got, want)


def cotangent_sets(values, rng):
    """A Gaussian cotangent for every result, together and each alone; none where there is no result."""
    together = [None if value is None else rng.standard_normal(value.shape) for value in values]
    alone = [[d if here == at else None for here, d in enumerate(together)] for at in range(len(values))]
    return [together, *(ds for ds in alone if any(d is not None for d in ds))][: None if len(values) > 1 else 1]


def gradients(values, cotangents, leaves):
    """Torch's gradients by name; None where a result does not depend on the argument."""
    pairs = [(w, torch.tensor(d)) for w, d in zip(values, cotangents, strict=True) if d is not None]
    outputs, weights = zip(*pairs, strict=True)
    found = torch.autograd.grad(outputs, list(leaves.values()), weights, retain_graph=True, allow_unused=True)
    return {name: None if g is None else g.numpy() for name, g in zip(leaves, found, strict=True)}


def differences(name, inputs, seed=0, model=None):
    """{result or "d" + argument: the worst relative difference between the two implementations}."""
    op, tensors = OPS[name], as_torch(inputs)
    value, tape = op.forward(**inputs)
    got, want = results(value), (model or MODELS[name])(**tensors)
    assert [x is None for x in got] == [x is None for x in want]
    worst = {
        result.name: relative(np.asarray(g), w.detach().numpy())
        for result, g, w in zip(op.signature.results, got, want, strict=True)
        if w is not None
    }
    leaves = {key: x for key, x in tensors.items() if isinstance(x, torch.Tensor) and x.requires_grad}
    for ds in cotangent_sets(got, np.random.default_rng([seed, 1])):
        grads = op.backward(tuple(ds) if len(ds) > 1 else ds[0], **tape)
        assert set(grads) == set(leaves)
        wanted = gradients(want, ds, leaves)
        scale = max(np.max(np.abs(d), initial=0) for d in ds if d is not None)
        for key, g in grads.items():
            off = gradient_difference(name, key, g, wanted[key], scale)
            worst["d" + key] = max(worst.get("d" + key, 0), off)
    return worst


def merge(table, new):
    return {key: max(table.get(key, 0), new.get(key, 0)) for key in table | new}


def worst_over_cases(name):
    table = {}
    for seed, inputs in enumerate(cases(OPS[name])):
        table = merge(table, differences(name, inputs, seed))
    return table


def agree(table, tolerance=TOLERANCE):
    off = {key: f"{value:.1e}" for key, value in table.items() if not value <= tolerance}
    assert not off, f"relative differences above {tolerance:g}: {off}"


@pytest.mark.parametrize("name", OPS)
def test_forward_and_every_gradient_agree(name):
    agree(worst_over_cases(name))


@pytest.mark.parametrize("name", ar.rules)
@pytest.mark.parametrize("shape", [(), (1,), ("i", 1), ("j",), (2, 1, 1, 1), (3, "i", "j")], ids=str)
def test_scale_and_allowed_of_any_shape(name, shape):
    op = ar.rules[name]
    sizes = op.signature.prime_sizes()
    rng = np.random.default_rng(len(shape))
    inputs = op.example(seed=7, leading=(2, 3))
    shape = tuple(sizes.get(axis, axis) for axis in shape)
    inputs |= {"scale": np.asarray(rng.standard_normal(shape)), "allowed": np.asarray(rng.random(shape) < 0.6)}
    agree(differences(name, inputs))


@pytest.mark.parametrize("normalize", ["softmax", "double_softmax"])
@pytest.mark.parametrize("name", ar.rules)
def test_either_normalizer(name, normalize):
    for seed, include in enumerate([(), ("allowed", "scale")]):
        inputs = draw(ar.rules[name], {"options": {"normalize": normalize}}, include, (2, 3), seed)
        agree(differences(name, inputs))


@pytest.mark.parametrize("name", ["dot", "cosine", "key_norm"])
def test_zero_vectors(name):
    inputs = ar.rules[name].example(seed=3, leading=(2,))
    inputs["q"][0, 1] = 0
    inputs["k"][1, 2] = 0
    agree(differences(name, inputs))


def test_multi_head_attention_agrees_with_torchs_layer():
    op, sizes = ar.mechanisms["multi_head_attention"], {"h": 3, "d": 5, "e": 5, "m": 15, "y": 15}
    optional = ("b_q", "b_k", "b_v", "b_o", "allowed")
    for seed in range(5):
        inputs = op.signature.draw(np.random.default_rng(seed), sizes, (2,), include=optional)
        inputs["allowed"][..., 1] = True
        agree(differences("multi_head_attention", inputs, seed, multi_head_layer))


def test_a_tie_in_max_pooling_gives_equal_shares():
    rng = np.random.default_rng(5)
    x, w_v = (rng.integers(-8, 9, shape).astype(float) for shape in ((3, 4, 7), (7, 5)))
    flat = np.zeros((7, 3))
    inputs = {"x": x, "w_q": flat, "w_k": rng.standard_normal((7, 3)), "w_v": w_v, "pool": "max"}
    agree(differences("pooled_self_attention", inputs))


@pytest.mark.parametrize("name", sorted({name for name, _ in CANCELS}))
def test_gradients_that_cancel_are_zero(name):
    op = OPS[name]
    for seed, variant in enumerate(variants(op)):
        base = [key for key in variant.get("include", ()) if key != "scale"]
        value, tape = op.forward(**draw(op, variant, base, (2, 3), seed))
        shown = [np.random.default_rng(seed).standard_normal(x.shape) for x in results(value)]
        through_alpha = [None if r.name == "lse" else d for r, d in zip(op.signature.results, shown, strict=True)]
        grads = op.backward(tuple(through_alpha) if len(shown) > 1 else shown[0], **tape)
        for key in {key for owner, key in CANCELS if owner == name} & set(grads):
            assert np.max(np.abs(grads[key])) <= TOLERANCE * max(np.max(np.abs(d)) for d in shown)
