"""jvp and hvp of ops, rules and mechanisms: by name or by object, against the definition, and what they refuse."""

import re

import autograd.numpy as anp
import combos as c
import numpy as np
import pytest
from autograd import grad

import attention_ref as ar
from attention_ref.pipeline import pipeline

OPS = ("score.additive", "adjust.softcap", "adjust.rotary", "normalize.entmax15", "layer.merge", "layer.gru_cell")


def gaussians(seed, like):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(np.shape(x)) for name, x in like.items()}


def as_tuple(value):
    return value if isinstance(value, tuple) else (value,)


def one_or_all(values):
    return values[0] if len(values) == 1 else tuple(values)


@pytest.mark.parametrize("name", OPS)
def test_an_op_against_its_definition(name):
    op = ar.ops[name]
    inputs = op.example(leading=(2,))
    names = [x for x in inputs if x in op.arguments and op.arguments[x].kind == "float"]
    tangents = gaussians(1, {x: inputs[x] for x in names})
    moved = inputs | {x: inputs[x] + 1j * c.STEP * tangents[x] for x in names}
    with np.errstate(all="ignore"):
        want = [np.imag(x) / c.STEP for x in as_tuple(op.definition(np, **moved))]
    for got, expected in zip(as_tuple(ar.jvp(op, inputs, tangents)), want, strict=True):
        c.close(got, expected, "the derivative")
    cotangents = list(gaussians(2, dict(enumerate(want))).values())

    def project(point):
        results = as_tuple(op.definition(anp, **inputs | dict(zip(names, point, strict=True))))
        return sum(anp.sum(d * x) for d, x in zip(cotangents, results, strict=True))

    def slope(point):
        return sum(anp.sum(tangents[x] * g) for x, g in zip(names, grad(project)(point), strict=True))

    bends = grad(slope)([inputs[x] for x in names])
    got = ar.hvp(op, inputs, one_or_all(cotangents), tangents)
    for x, expected in zip(names, bends, strict=True):
        c.close(got[x], expected, f"the derivative of d{x}", 1e-11)


@pytest.mark.parametrize("rule", ar.rules)
def test_a_rule_goes_by_its_name_or_by_itself(rule):
    inputs = c.draw(rule, "allowed", "dropout", "softcap")
    tangents = gaussians(1, {name: inputs[name] for name in ("q", "softcap")})
    by_name, by_itself = ar.jvp(rule, inputs, tangents), ar.jvp(ar.rules[rule], inputs, tangents)
    assert all(np.array_equal(a, b) for a, b in zip(by_name, by_itself, strict=True))
    cotangent = tuple(None if x is None else np.full(x.shape, 0.7) * np.sign(x) for x in by_name)
    by_name, by_itself = (ar.hvp(op, inputs, cotangent, tangents) for op in (rule, ar.rules[rule]))
    assert set(by_name) == set(c.floating(rule, inputs))
    assert all(np.array_equal(by_name[name], by_itself[name]) for name in by_name)


@pytest.mark.parametrize("company", [(), ("sink", "alibi_slopes"), ("bias (4, 5, 7)", "softcap", "grouped heads")])
def test_second_derivatives_are_symmetric(company):
    inputs = c.draw("scaled_dot", *company)
    book = c.Textbook("scaled_dot", inputs)
    u, w = book.tangents, gaussians(9, book.tangents)
    cotangents = tuple(book.cotangents)
    through_u, through_w = (ar.hvp("scaled_dot", inputs, cotangents, along) for along in (u, w))
    products = [sum(np.sum(a[name] * b[name]) for name in u) for a, b in ((through_u, w), (through_w, u))]
    c.close(*products, "the product")


def test_a_tangent_of_some_is_zero_in_the_others():
    inputs = c.draw("scaled_dot", "sink")
    tangents = gaussians(1, {name: inputs[name] for name in ("q", "sink")})
    whole = tangents | {name: np.zeros_like(inputs[name]) for name in "kv"}
    for got, want in zip(*(ar.jvp("scaled_dot", inputs, u) for u in (tangents, whole)), strict=True):
        assert np.array_equal(got, want)


def test_python_numbers_and_lists_have_tangents():
    inputs = c.draw("scaled_dot", scale=2.0, softcap=3)
    got = ar.jvp("scaled_dot", inputs, {"scale": 0.5, "softcap": 1.0})
    want = ar.jvp(
        "scaled_dot", inputs | {"scale": np.array(2.0), "softcap": np.array(3.0)}, {"scale": [0.5][0], "softcap": 1}
    )
    for a, b in zip(got, want, strict=True):
        assert np.array_equal(a, b)


Q = c.draw("scaled_dot")["q"]
REFUSED = [
    ({"x": Q}, ar.OptionError, "no tangent can be had of 'x'; the inputs that have one: q, k, v"),
    ({"allowed": Q}, ar.OptionError, "no tangent can be had of 'allowed'"),
    ({"sink": np.ones(c.H)}, ar.OptionError, "no tangent can be had of 'sink'"),
    ({"q": Q[:1]}, ar.ShapeError, r"the tangent of q must be real and of its shape \(2, 4, 5, 3\); got float64 of"),
    ({"q": 1.0}, ar.ShapeError, r"the tangent of q must be .* of shape \(\)"),
    ({"q": Q * 1j}, ar.ShapeError, "the tangent of q must be real .* got complex128"),
    ({"q": np.ones(Q.shape, int)}, ar.OptionError, "the tangent of q must be floating-point; got dtype int64"),
    ({"q": "up"}, ar.OptionError, "the tangent of q must be floating-point"),
    ({"q": [[1.0], [1.0, 2.0]]}, ar.OptionError, "the tangent of q is no array"),
]


@pytest.mark.parametrize(("tangents", "kind", "message"), REFUSED)
def test_wrong_tangents_are_refused(tangents, kind, message):
    inputs = c.draw("scaled_dot", "allowed")
    cotangent = (np.ones((c.B, c.H, c.L, c.E)), None, None)
    for call in (
        lambda: ar.jvp("scaled_dot", inputs, tangents),
        lambda: ar.hvp("scaled_dot", inputs, cotangent, tangents),
    ):
        with pytest.raises(kind) as caught:
            call()
        assert re.search(f"^scaled_dot: {message}", str(caught.value))
        assert "\n" not in str(caught.value)


def test_an_unknown_rule_is_refused():
    with pytest.raises(ar.OptionError, match="there is no rule 'scale_dot'; did you mean 'scaled_dot'"):
        ar.jvp("scale_dot", {}, {})


# Multi-head attention takes every option


MHA = ar.mechanisms["multi_head_attention"]


def multi_head(*names, **more):
    inputs = MHA.example(leading=(c.B,), variant=0, i=c.L, j=c.S, h=c.H, d=c.D, e=c.E)
    rng = np.random.default_rng(c.seed_of(*names))
    for name in names:
        inputs |= c.OPTIONS[name](rng)
    if inputs.get("relative_table", np.ones((1, 1))).ndim == 1:
        inputs["relative_table"] = np.tile(inputs["relative_table"], (c.H, 1))
    if c.POSITIONAL & set(names):
        inputs.setdefault("align", "bottom_right")
    return inputs | more


ALONE = [name for name in c.OPTIONS if name not in ("grouped heads", "one key head")]
TOGETHER = [("causal", "sink", "bias (7,)", "dropout"), ("window", "alibi_slopes", "softcap", "k_lengths", "segments")]


@pytest.mark.parametrize("names", [*((name,) for name in ALONE), *TOGETHER], ids=" + ".join)
def test_multi_head_attention_takes_the_option(names):
    inputs = multi_head(*names)
    told = c.textbook_inputs(inputs | {"v": inputs["v"]})
    floating = [name for name in told if name in MHA.arguments and MHA.arguments[name].kind == "float"]
    with np.errstate(all="ignore"):
        want = MHA.definition(np, **told)
    value, tape = MHA.forward(**inputs)
    for got, expected in zip(value, want, strict=True):
        c.close(got, expected, "the value")
    d = tuple(gaussians(3, dict(enumerate(want))).values())

    def project(point):
        results = MHA.definition(anp, **told | dict(zip(floating, point, strict=True)))
        return sum(anp.sum(a * x) for a, x in zip(d, results, strict=True))

    with np.errstate(all="ignore"):
        gradients = dict(zip(floating, grad(project)([told[name] for name in floating]), strict=True))
    got = MHA.backward(d, **tape)
    assert set(got) == set(gradients)
    size = c.largest(gradients.values())
    for name, expected in gradients.items():
        c.close(got[name], expected, f"d{name}", size=size)


def test_multi_head_attention_names_every_option_of_attention():
    known = {argument.name for argument in pipeline.Signature(f"{pipeline.OPTIONAL} -> o[]").arguments}
    assert known <= set(MHA.arguments)
    assert MHA.options == ar.rules["scaled_dot"].options


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("mask", ["bias", "lengths", "segments", "mask"])
def test_what_is_masked_in_multi_head_attention_changes_nothing(mask, poison):
    lengths = {"q_lengths": np.array([[c.L - 1]]), "k_lengths": np.array([[c.S - 2]])}
    keep = (np.arange(c.L) < c.L - 1)[:, None] & (np.arange(c.S) < c.S - 2)
    options = {
        "bias": {"bias": np.where(keep, 0.0, -np.inf)},
        "lengths": lengths,
        "segments": {"q_segments": np.array([0, 0, 0, 0, -1]), "k_segments": np.array([0] * 5 + [-1] * 2)},
        "mask": {"allowed": ar.masks.lengths(c.L - 1, c.S - 2)},
    }[mask]
    inputs = multi_head(**options)
    wild = inputs | {name: inputs[name].copy() for name in "qkv"}
    wild["q"][:, c.L - 1 :], wild["k"][:, c.S - 2 :], wild["v"][:, c.S - 2 :] = poison, poison, poison
    runs = [MHA.forward(**given) for given in (wild, inputs)]
    d = tuple(gaussians(3, dict(enumerate(runs[1][0]))).values())
    for got, want in zip(runs[0][0], runs[1][0], strict=True):
        assert np.array_equal(got, want)
    got, want = (MHA.backward(d, **tape) for _, tape in runs)
    for name in want:
        c.close(got[name], want[name], f"d{name}")
    assert not got["q"][:, c.L - 1 :].any()
    assert not got["k"][:, c.S - 2 :].any()
    assert not got["v"][:, c.S - 2 :].any()
