"""How far two correct programs may be apart where 1e-12 is too much to ask: large scores, unscaled weights.

For a score s = q W kᵀ (W = scale·I for the dot products) and u = 2⁻⁵³, γ_n = n·u/(1 - n·u), every intermediate is
followed by a bound Δ on one program's error, from nothing but the data; two correct programs are at most 2Δ apart:

    Δs  = γ_{d+c+2} |q||W||k|ᵀ + u|s|            a sum of products, in any order
    a   = Δs + u|s - m|                          the rounded shift by the row's maximum m
    ρ   = expm1(a + Σ_k α∘a + γ_M + 13u)         exp carries an absolute error a over to a relative one
    Δα  = α∘ρ,   Δlse = Σ_k α∘a + γ_M + 10u + 2u(|m| + |lse|)
    Δo  = Δα|v| + γ_{M+2}(α + Δα)|v|             and so on, backward, product rule by product rule

Scores of 1e4 thus cost α a relative error of about (d + c)·u·1e4 however careful the program is. For everything else
the same is measured instead of derived: κ is the largest change in an answer, relative to its largest value, a unit
of relative change in the result of every operation, forward and backward; a program whose operations round n times
(the longest sum and ten for exp and the like) is n·u·κ from the exact answer, and two are at most 2·n·u·κ apart.
"""

import numpy as np
import pytest
import torch
from agreement import relative
from test_torch import CANCELS, MODELS, OPS, as_torch, gradients, results, variants
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

import attention_ref as ar

pytestmark = pytest.mark.torch

U = 2.0**-53
COPIES = (torch.ops.aten.amax, torch.ops.aten.clone, torch.ops.aten.where)
TINY = np.finfo(np.float64).tiny


def gamma(n):
    return n * U / (1 - n * U)


def exact(q, k, w, v, do, dlse):
    """The plain formulas, for the sizes that the bounds are made of."""
    s = q @ w @ k.T
    m = s.max(-1, keepdims=True)
    alpha = np.exp(s - m) / np.exp(s - m).sum(-1, keepdims=True)
    o, lse = alpha @ v, (m + np.log(np.exp(s - m).sum(-1, keepdims=True)))[:, 0]
    inner = do @ v.T - np.sum(do * o, -1, keepdims=True) + dlse[:, None]
    return s, m, alpha, o, lse, inner, alpha * inner


def bounds(q, k, w, v, do, dlse):
    """{result or gradient: how far one correct program may be from the exact answer, element by element}."""
    s, m, alpha, o, lse, inner, ds = exact(q, k, w, v, do, dlse)
    (rows, d), (columns, c), e = q.shape, k.shape, v.shape[-1]
    q, k, w, v, do = (np.abs(x) for x in (q, k, w, v, do))
    a = gamma(d + c + 2) * (q @ w @ k.T) + U * np.abs(s) + U * np.abs(s - m)
    row = np.sum(alpha * a, -1, keepdims=True)
    off_alpha = alpha * np.expm1(a + row + gamma(columns) + 13 * U) + TINY
    off_lse = row[:, 0] + gamma(columns) + 10 * U + 2 * U * (np.abs(m[:, 0]) + np.abs(lse))
    top = alpha + off_alpha
    off_o = off_alpha @ v + gamma(columns + 2) * top @ v + U * np.abs(o)
    off_dv = off_alpha.T @ do + gamma(rows + 1) * top.T @ do
    off_inner = gamma(e) * (do @ v.T) + 4 * U * np.abs(inner) + 2 * U * np.abs(dlse)[:, None]
    off_inner += np.sum(do * off_o + gamma(e) * do * (np.abs(o) + off_o), -1, keepdims=True)
    off_ds = top * off_inner + off_alpha * np.abs(inner) + 4 * U * np.abs(ds) + TINY
    spread = off_ds + gamma(rows + columns + d + c + 4) * (np.abs(ds) + off_ds)
    off_dq, off_dk, off_dw = spread @ k @ w.T, spread.T @ q @ w, q.T @ spread @ k
    return {"o": off_o, "alpha": off_alpha, "lse": off_lse, "q": off_dq, "k": off_dk, "v": off_dv, "w": off_dw}


def large_inputs(rule, size, near, seed):
    """Inputs whose scores are about `size`; `near`: nearly the same for all the keys, so that every key counts."""
    rng = np.random.default_rng(seed)
    sizes = {"i": 23, "j": 31, "d": 61, "e": 13}
    inputs = ar.rules[rule].example(seed=seed, **sizes)
    if near:
        inputs["k"] = inputs["k"][:1] + inputs["k"] * 4 / size
    inputs["q"] = inputs["q"] * size / 4
    return inputs, rng.standard_normal((23, 13)), rng.standard_normal(23)


def both(rule, inputs, do, dlse):
    """(ours, torch's) results and gradients in one dict each."""
    value, tape = ar.rules[rule].forward(**inputs)
    ours = dict(zip(("o", "alpha", "lse"), value, strict=True)) | ar.rules[rule].backward((do, None, dlse), **tape)
    tensors = as_torch(inputs)
    wanted = MODELS[rule](**tensors)
    theirs = {key: x.detach().numpy() for key, x in zip(("o", "alpha", "lse"), wanted, strict=True)}
    return ours, theirs | gradients(wanted, (do, None, dlse), tensors)


@pytest.mark.parametrize("near", [False, True], ids=["spread", "near"])
@pytest.mark.parametrize("size", [1e3, 1e4])
@pytest.mark.parametrize("rule", ["dot", "scaled_dot", "general"])
def test_large_scores_stay_within_the_derived_bound(rule, size, near):
    for seed in range(5):
        inputs, do, dlse = large_inputs(rule, size, near, seed)
        d = inputs["q"].shape[-1]
        factor = d**-0.5 if rule == "scaled_dot" else 1.0
        w = inputs.get("w", factor * np.eye(d))
        bound = bounds(inputs["q"], inputs["k"], w, inputs["v"], do, dlse)
        ours, theirs = both(rule, inputs, do, dlse)
        for key, got in ours.items():
            may = 2 * bound[key]
            ratio = np.max(np.abs(got - theirs[key]) / may)
            largest = np.max(np.abs(got))
            apart, allowed = np.max(np.abs(got - theirs[key])) / largest, np.max(may) / largest
            print(f"{rule} {size:g} {key}: {apart:.1e} apart, may be {allowed:.1e}, {ratio:.3f} of the bound")
            assert ratio <= 1, key


def unscaled(op, variant, seed, factor):
    """Inputs with the weights drawn at `factor` whatever their width."""
    rng = np.random.default_rng(seed)
    sizes = variant.get("sizes")
    inputs = op.signature.draw(rng, sizes, (3,), include=variant.get("include", ())) | variant.get("options", {})
    for name, argument in op.arguments.items():
        if name in inputs and argument.kind == "float" and not argument.leading:
            inputs[name] = np.asarray(factor * rng.standard_normal(np.shape(inputs[name])))
    return inputs


def everything(name, inputs, cotangents):
    """Results and gradients of torch's program in one dict."""
    op, tensors = OPS[name], as_torch(inputs)
    wanted = MODELS[name](**tensors)
    leaves = {key: x for key, x in tensors.items() if isinstance(x, torch.Tensor) and x.requires_grad}
    values = {r.name: x.detach().numpy() for r, x in zip(op.signature.results, wanted, strict=True) if x is not None}
    return values | {"d" + key: g for key, g in gradients(wanted, cotangents, leaves).items()}


class Rounding(TorchDispatchMode):
    """Every result of every operation that rounds, forward and backward, off by a relative `step`, up or down."""

    def __init__(self, step, seed):
        super().__init__()
        self.step, self.generator = step, torch.Generator().manual_seed(seed)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        exact = func.is_view or func._schema.is_mutable or func.overloadpacket in COPIES
        return out if exact else tree_map_only(torch.Tensor, self.off, out)

    def off(self, x):
        if not x.is_floating_point():
            return x
        return x * (1 + self.step * (2 * torch.randint(2, x.shape, generator=self.generator, dtype=x.dtype) - 1))


def condition(name, inputs, cotangents, base, step=2.0**-40):
    """How much each result and gradient changes, relative to its largest value, a unit of rounding everywhere."""
    kappa = dict.fromkeys(base, 1.0)
    for seed in range(6):
        with Rounding(step, seed):
            change = everything(name, inputs, cotangents)
        kappa = {key: max(kappa[key], relative(change[key], base[key]) / step) for key in base}
    return kappa


def ours(name, inputs, rng):
    """(NumPy's results and gradients in one dict, the cotangents that were drawn)."""
    op = OPS[name]
    value, tape = op.forward(**inputs)
    named = zip(op.signature.results, results(value), strict=True)
    found = {result.name: np.asarray(x) for result, x in named if x is not None}
    ds = tuple(None if x is None else rng.standard_normal(x.shape) for x in results(value))
    return found | {"d" + key: g for key, g in op.backward(ds if len(ds) > 1 else ds[0], **tape).items()}, ds


@pytest.mark.parametrize("factor", [1, 10])
@pytest.mark.parametrize("name", OPS)
def test_unscaled_weights_stay_within_the_measured_conditioning(name, factor):
    for seed, variant in enumerate(variants(OPS[name])):
        inputs = unscaled(OPS[name], variant, seed, factor)
        found, ds = ours(name, inputs, np.random.default_rng([seed, 2]))
        base = everything(name, inputs, ds)
        kappa = condition(name, inputs, ds, base)
        roundings = 10 + max(max(x.shape, default=1) for x in inputs.values() if isinstance(x, np.ndarray))
        for key in found.keys() - {"d" + argument for owner, argument in CANCELS if owner == name}:
            apart, may = relative(found[key], base[key]), 2 * roundings * U * kappa[key]
            print(f"{name} {key}: {apart:.1e} apart, may be {may:.1e}, {apart / may:.3f} of the bound")
            assert np.isfinite(may), key
            assert apart <= may, key
