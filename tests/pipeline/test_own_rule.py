"""A rule of the user's own, in a module outside the package: it needs four names, and nothing else, to be right."""

import copy
import pickle
import sys
import tracemalloc
from types import ModuleType, SimpleNamespace

import autograd
import autograd.numpy as anp
import numpy as np
import pytest

import attention_ref as ar
from attention_ref.op.signature import Signature

SQUARED_DISTANCE = """
import numpy as np

SIGNATURE = "q[... i d] k[... j d] -> s[... i j]"


def definition(xp, q, k):
    return -xp.sum((q[..., :, None, :] - k[..., None, :, :]) ** 2, axis=-1)


def forward(q, k):
    difference = q[..., :, None, :] - k[..., None, :, :]
    s = -np.einsum("...ijd,...ijd->...ij", difference, difference)
    return s, {"difference": difference}


def backward(ds, *, difference):
    ddifference = -2 * ds[..., None] * difference
    return {"k": -ddifference.sum(axis=-3), "q": ddifference.sum(axis=-2)}
"""


@pytest.fixture
def module(monkeypatch):
    """CONTRIBUTING's example as a stranger's module, whose backward names k first."""
    made = ModuleType("squared_distance")
    exec(compile(SQUARED_DISTANCE, "squared_distance.py", "exec"), made.__dict__)
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


def inputs(queries=13, keys=11, heads=6, key_heads=2, width=5, values=3, dtype=np.float64):
    rng = np.random.default_rng(0)
    shapes = (2, heads, queries, width), (2, key_heads, keys, width), (2, key_heads, keys, values)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def by_hand(q, k, v, do):
    """o, dq, dk, dv of the squared distance, with every key head written out and each sum in one einsum."""
    group = q.shape[1] // k.shape[1]
    wide_k, wide_v = (np.repeat(x, group, axis=1) for x in (k, v))
    difference = q[:, :, :, None] - wide_k[:, :, None]
    e = np.exp(-np.sum(difference**2, axis=-1))
    alpha = e / e.sum(axis=-1, keepdims=True)
    o = alpha @ wide_v
    dalpha = do @ np.swapaxes(wide_v, -1, -2)
    ds = alpha * (dalpha - np.sum(alpha * dalpha, axis=-1, keepdims=True))
    dq = np.einsum("bhij,bhijd->bhid", -2 * ds, difference)
    dk = np.einsum("bhij,bhijd->bhjd", 2 * ds, difference)
    dv = np.swapaxes(alpha, -1, -2) @ do

    def summed(x):
        return x.reshape(x.shape[0], -1, group, *x.shape[2:]).sum(axis=2)

    return o, {"q": dq, "k": summed(dk), "v": summed(dv)}


@pytest.mark.parametrize("tile", [None, (4, 3), "auto"])
def test_grouped_heads_whatever_the_order_of_the_gradients(module, tile):
    q, k, v = inputs()
    do = np.random.default_rng(1).standard_normal((2, 6, 13, 3))
    a = ar.attention(q, k, v, rule=module, tile=tile)
    o, want = by_hand(q, k, v, do)
    np.testing.assert_allclose(a.o, o, rtol=1e-12)
    grads = a.backward(do)
    for name, gradient in want.items():
        assert grads[name].shape == gradient.shape
        np.testing.assert_allclose(grads[name], gradient, rtol=1e-10, atol=1e-12, err_msg=name)


def test_every_front_door_takes_it(module):
    q, k, v = inputs(heads=2)
    o, _ = by_hand(q, k, v, np.zeros((2, 2, 13, 3)))
    some = ar.sample(q, k, v, np.ones_like(o), rule=module, rows=[3, 7], keys=[5])
    np.testing.assert_allclose(some.o, o[..., [3, 7], :], rtol=1e-12)
    low = ar.emulate("float16")(q, k, v, rule=module)
    assert 0 < np.abs(low.o - o).max() < 0.1
    gradient = autograd.grad(lambda x: anp.sum(ar.attention(x, k, v, rule=module).o ** 2))(q)
    a = ar.attention(q, k, v, rule=module)
    np.testing.assert_allclose(gradient, a.backward(2 * a.o)["q"], rtol=1e-12)
    tangents = {"q": np.ones_like(q)}
    moved = ar.jvp(module, {"q": q, "k": k, "v": v}, tangents)[0]
    np.testing.assert_allclose(np.sum(moved * 2 * a.o), np.sum(gradient), rtol=1e-10)


@pytest.mark.parametrize("right", [True, False])
def test_check_takes_it(module, right):
    def candidate(q, k, v):
        s = -((q[..., :, None, :] - k[..., None, :, :]) ** 2).sum(axis=-1, dtype=np.float32)
        if not right:
            s = s / 2
        e = np.exp(s - s.max(axis=-1, keepdims=True))
        return (e / e.sum(axis=-1, keepdims=True)) @ v

    report = ar.check(candidate, rule=module, cases="shape-17x17,shape-35x35", backward=False)
    assert report.passed is right
    assert report.meta["rule"] == "squared_distance"


def test_memory_after_forward_is_flat(module):
    """Tiles keep nothing of the size of [i j d], though the tape of each holds it."""
    held = {}
    for length in (256, 1024, 4096):
        q, k, v = (np.zeros((length, 16), np.float32) for _ in range(3))
        ar.attention(q[:64], k[:64], v[:64], rule=module, tile=64)  # what is imported and found once
        tracemalloc.start()
        a = ar.attention(q, k, v, rule=module, tile=64)
        held[length] = tracemalloc.get_traced_memory()[0] / length
        tracemalloc.stop()
        del a
    assert max(held.values()) < 4000, f"bytes held after forward, for each position: {held}"


def test_a_parameter_with_the_name_of_an_option_is_refused(module):
    """It would be applied as both, and one gradient would overwrite the other."""
    clash = SimpleNamespace(**{name: getattr(module, name) for name in ("definition", "forward", "backward")})
    q, k, v = inputs()
    for name in ("scale", "bias", "causal", "v"):
        clash.SIGNATURE = f"q[... i d] k[... j d] {name}[] -> s[... i j]"
        with pytest.raises(ar.OptionError, match=f"the rule's parameter '{name}' has the name of an input"):
            ar.attention(q, k, v, rule=copy.copy(clash))


def test_what_attention_returns_can_be_pickled_and_copied(module):
    q, k, v = inputs()
    do = np.random.default_rng(2).standard_normal((2, 6, 13, 3))
    for options in ({}, {"causal": True, "align": 2}, {"tile": 4}, {"rule": module}, {"rule": "additive"}):
        rule = options.get("rule", "scaled_dot")
        extra = {}
        if rule == "additive":
            example = ar.rules["additive"].example(leading=(2, 6))
            extra = {name: example[name] for name in ("w_q", "w_k", "b", "w_s")}
            q, k, v, do = example["q"], example["k"], example["v"], np.ones((2, 6, 5, 13))
        a = ar.attention(q, k, v, **options, **extra)
        want = a.backward(do[..., : a.o.shape[-1]])
        for again in (copy.deepcopy(a), pickle.loads(pickle.dumps(a))):
            np.testing.assert_array_equal(again.o, a.o)
            got = again.backward(do[..., : a.o.shape[-1]])
            assert got.keys() == want.keys()
            for name, gradient in want.items():
                np.testing.assert_array_equal(got[name], gradient)


@pytest.mark.parametrize(
    "op", [ar.rules["additive"], ar.ops["normalize.softmax"], ar.mechanisms["multi_head_attention"]]
)
def test_an_op_can_be_pickled_and_copied(op):
    for again in (copy.deepcopy(op), pickle.loads(pickle.dumps(op))):
        assert (type(again), again.name, again.signature.text) == (type(op), op.name, op.signature.text)
        again.forward(**again.example())


def test_the_tape_holds_arrays_only():
    q, k, v = inputs()
    a = ar.attention(q, k, v, causal=True, align=0)
    assert list(a.tape) == ["score", "scaled", "masked", "alpha", "allowed"]
    assert all(isinstance(x, np.ndarray) for x in a.tape.values())


def test_completion_finds_what_is_imported_later():
    assert {"check", "plot", "power", "sample", "attention"} <= set(dir(ar))


def test_a_rule_may_have_an_optional_parameter(module):
    """Left out, it is not asked for; given, it has its gradient."""

    def forward(q, k, strength=None):
        s, tape = module.forward(q, k)
        return (s if strength is None else s * strength), tape | {"s": s, "strength": strength}

    def backward(ds, *, s, strength, **tape):
        if strength is None:
            return module.backward(ds, **tape)
        return module.backward(ds * strength, **tape) | {"strength": np.sum(ds * s)}

    def definition(xp, q, k, strength=1.0):
        return module.definition(xp, q, k) * strength

    rule = SimpleNamespace(definition=definition, forward=forward, backward=backward)
    rule.SIGNATURE = "q[... i d] k[... j d] strength?[] -> s[... i j]"
    q, k, v = inputs()
    do = np.random.default_rng(3).standard_normal((2, 6, 13, 3))
    plain, one = ar.attention(q, k, v, rule=rule), ar.attention(q, k, v, rule=rule, strength=1.0)
    np.testing.assert_array_equal(plain.o, one.o)
    assert set(plain.backward(do)) == {"q", "k", "v"}
    moved = ar.jvp(rule, {"q": q, "k": k, "v": v, "strength": 0.7}, {"strength": 1.0})[0]
    some = ar.attention(q, k, v, rule=rule, strength=0.7).backward(do)
    np.testing.assert_allclose(some["strength"], np.sum(moved * do), rtol=1e-12)


def test_two_arguments_of_one_name_are_refused():
    with pytest.raises(ValueError, match="'q' stands there twice"):
        Signature("q[... i d] q[... j d] -> s[... i j]")
    for text in ("b?[x]", "token<v[...]", "n<=j(...)", "allowed?:bool(... i j)", "c:positive(... i j)", "w[x d+c]"):
        (argument,) = Signature(f"{text} -> s[]").arguments
        assert argument.declaration == text
