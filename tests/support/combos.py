"""Combinations of the options of attention: what each option draws, and what the textbook says about them together."""

from itertools import combinations
from zlib import crc32

import autograd.numpy as anp
import numpy as np
from autograd import grad

import attention_ref as ar

B, H, G, L, S, D, E = 2, 4, 2, 5, 7, 3, 2
STEP = 1e-200
SIZES = {"i": L, "j": S, "d": D, "e": E}
NORMALIZERS = ("softmax_off_by_one", "sparsemax", "entmax15", "sigmoid", "double_softmax")
BIAS_SHAPES = ((), (S,), (L, 1), (1, S), (L, S), (H, 1, 1), (H, L, S), (B, 1, L, S), (B, H, L, S))


def seed_of(*what):
    return crc32(repr(what).encode())


# What each option draws


def random_allowed(rng, *shape):
    """Most pairs, three keys at least, and none for the last query but one."""
    allowed = rng.random(shape) < 0.7
    allowed[..., 1:4] = True
    if shape[-2] == L:
        allowed[..., L - 2, :] = False
    return allowed


def composed_mask(rng):
    return ar.masks.dense(rng.random((H, L, S)) < 0.8) & ~ar.masks.documents([2, 3], [3, 4])


def positional_mask(rng):
    return ar.masks.blocks(3) | ar.masks.dilated(2) & ar.masks.window(3, None)


def bias(shape):
    def drawn(rng):
        x = rng.standard_normal(shape)
        return {"bias": np.where(rng.random(shape) < 0.2, -np.inf, x) if len(shape) > 1 and shape[-1] == S else x}

    return drawn


def segments(rng):
    return {"q_segments": np.sort(rng.integers(-1, 2, (B, 1, L))), "k_segments": np.sort(rng.integers(-1, 2, (1, S)))}


OPTIONS = {
    "allowed": lambda rng: {"allowed": random_allowed(rng, H, L, S)},
    "allowed of one row": lambda rng: {"allowed": random_allowed(rng, B, 1, 1, S)},
    "mask": lambda rng: {"allowed": composed_mask(rng)},
    "positional mask": lambda rng: {"allowed": positional_mask(rng)},
    "causal": lambda rng: {"causal": True},
    "window": lambda rng: {"window": (2, 1)},
    "window to the left": lambda rng: {"window": (1, None)},
    "align top_left": lambda rng: {"align": "top_left"},
    "align bottom_right": lambda rng: {"align": "bottom_right"},
    "align integer": lambda rng: {"align": -2},
    "align array": lambda rng: {"align": rng.integers(-2, 5, (B, 1))},
    "q_lengths": lambda rng: {"q_lengths": rng.integers(1, L + 1, (B, 1))},
    "k_lengths": lambda rng: {"k_lengths": np.array([[0], [S - 2]]) + rng.integers(0, 3, (B, 1))},
    "segments": segments,
    **{f"bias {shape}": bias(shape) for shape in BIAS_SHAPES},
    "alibi_slopes": lambda rng: {"alibi_slopes": rng.standard_normal(H)},
    "relative_table": lambda rng: {"relative_table": rng.standard_normal((H, 6)), "relative_max_distance": 4},
    "one-sided table": lambda rng: {"relative_table": rng.standard_normal(4), "relative_bidirectional": False},
    "scale": lambda rng: {"scale": rng.standard_normal()},
    "scale of each head": lambda rng: {"scale": rng.standard_normal((H, 1, 1))},
    "softcap": lambda rng: {"softcap": np.exp(rng.standard_normal())},
    "softcap of each head": lambda rng: {"softcap": np.exp(rng.standard_normal((H, 1, 1)))},
    "sink": lambda rng: {"sink": rng.standard_normal(H)},
    "dropout": lambda rng: {"dropout": (rng.random((B, H, L, S)) < 0.7, 0.3)},
    **{f"normalize {name}": lambda rng, name=name: {"normalize": name} for name in NORMALIZERS},
    "empty_row nan": lambda rng: {"empty_row": "nan"},
    "empty_row uniform": lambda rng: {"empty_row": "uniform"},
    "grouped heads": lambda rng: {"heads": G},
    "one key head": lambda rng: {"heads": 1},
}
POSITIONAL = {
    *("causal", "window", "window to the left", "positional mask", "alibi_slopes", "relative_table", "one-sided table"),
    *("align top_left", "align bottom_right", "align integer", "align array"),
}


def arguments(name):
    return set(OPTIONS[name](np.random.default_rng(0)))


def combinable(*names):
    """Do these options set different arguments, so that they can be given together?"""
    sets = [arguments(name) for name in names]
    return sum(map(len, sets)) == len(set().union(*sets))


PAIRS = tuple(pair for pair in combinations(OPTIONS, 2) if combinable(*pair))


def contradiction(rule, names):
    """Why these options are refused together, as a pattern of the message; empty where they are not."""
    given = [OPTIONS[name](np.random.default_rng(0)) for name in names]
    normalize = next((g["normalize"] for g in given if "normalize" in g), None)
    normalize = normalize or ("double_softmax" if rule == "double_softmax" else "softmax")
    sink = "sink" in names
    fills = any(name in ("empty_row nan", "empty_row uniform") for name in names)
    reasons = []
    if rule == "positional_concat" and POSITIONAL & set(names):
        reasons.append("relates? query and key positions; this rule's keys stand beside its queries")
    if fills and (sink or normalize == "softmax_off_by_one"):
        reasons.append("empty_row='(nan|uniform)' contradicts the sink")
    if sink and normalize != "softmax":
        reasons.append(f"a sink belongs to softmax; normalize='{normalize}' has none")
    return "|".join(reasons)


def draw(rule, *names, **further):
    """The inputs of a call with these options; queries and keys differ in number, and so align is there if needed."""
    rng = np.random.default_rng(seed_of(rule, names))
    sizes = {letter: n for letter, n in SIZES.items() if letter in "ijde"}
    inputs = ar.rules[rule].example(seed=seed_of(rule), leading={x: (B, H) for x in "qkv"}, **sizes)
    for name in names:
        inputs |= OPTIONS[name](rng)
    inputs |= further
    heads = inputs.pop("heads", H)
    inputs |= {x: inputs[x][:, :heads] for x in "kv"}
    if POSITIONAL & set(names) and rule != "positional_concat":
        inputs.setdefault("align", "bottom_right")
    return inputs


# What the textbook says


def textbook_inputs(inputs):
    """The same call in the textbook's terms: dense masks, the dropout's two parts by themselves."""
    inputs = {name: x for name, x in inputs.items() if x is not None}
    if "dropout" in inputs:
        inputs["dropout"], inputs["dropout_p"] = inputs["dropout"]
    if isinstance(inputs.get("allowed"), ar.masks.Mask):
        lengths = inputs.get("q_lengths"), inputs.get("k_lengths")
        queries, keys = inputs["q"].shape[-2], inputs["v"].shape[-2]
        inputs["allowed"] = inputs["allowed"].dense(queries, keys, inputs.get("align"), *lengths)
    return {name: np.asarray(x) if isinstance(x, float) else x for name, x in inputs.items()}


def floating(rule, inputs):
    known = ar.rules[rule].arguments
    return [name for name in inputs if name in known and known[name].kind == "float" and inputs[name] is not None]


def defined(rule, xp, inputs):
    """(o, alpha, lse) by the definition; queries with every leading axis, which autograd's `where` needs."""
    with np.errstate(all="ignore"):
        return ar.rules[rule].module.definition(xp, **inputs)


class Textbook:
    """What the definition says about a call: values, gradients and derivatives, with cotangents drawn once."""

    def __init__(self, rule, inputs, seed=0):
        self.rule, self.inputs = rule, textbook_inputs(inputs)
        self.names = floating(rule, self.inputs)
        self.value = defined(rule, np, self.inputs)
        rng = np.random.default_rng(seed)
        self.cotangents = [None if x is None else rng.standard_normal(np.shape(x)) for x in self.value]
        self.tangents = {name: rng.standard_normal(np.shape(self.inputs[name])) for name in self.names}

    def project(self, point):
        results = defined(self.rule, anp, self.inputs | dict(zip(self.names, point, strict=True)))
        pairs = [(d, x) for d, x in zip(self.cotangents, results, strict=True) if x is not None]
        return sum(anp.sum(anp.where(np.isneginf(d * value_of(x)), 0, d * x)) for d, x in pairs)

    def point(self):
        return [self.inputs[name] for name in self.names]

    def gradients(self):
        with np.errstate(all="ignore"):
            return dict(zip(self.names, grad(self.project)(self.point()), strict=True))

    def bends(self):
        """The derivative of the gradients along the tangents, by autograd of autograd."""
        along = [self.tangents[name] for name in self.names]

        def slope(point):
            return sum(anp.sum(u * g) for u, g in zip(along, grad(self.project)(point), strict=True))

        with np.errstate(all="ignore"):
            return dict(zip(self.names, grad(slope)(self.point()), strict=True))

    def derivatives(self):
        """The derivative of every result along the tangents, by complex step."""
        moved = {name: self.inputs[name] + 1j * STEP * u for name, u in self.tangents.items()}
        return [None if x is None else np.imag(x) / STEP for x in defined(self.rule, np, self.inputs | moved)]


def value_of(x):
    while hasattr(x, "_value"):
        x = x._value
    return x


def close(got, want, name, tolerance=1e-12, size=1.0):
    """Finite where it should be, the same where it is not, and within the tolerance, of size or the greatest."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{name} has shape {got.shape}; want {want.shape}"
    finite = np.isfinite(want)
    assert np.array_equal(np.isfinite(got), finite), f"{name} is not finite where it should be, or the reverse"
    assert np.array_equal(got[~finite], want[~finite], equal_nan=True), f"{name} differs where it is not finite"
    error = np.abs(got[finite] - want[finite])
    bound = tolerance * np.max(np.abs(want[finite]), initial=size)
    assert not error.size or error.max() <= bound, f"{name} differs by {error.max():.3g}, more than {bound:.3g}"


def largest(arrays):
    finite = [np.abs(x[np.isfinite(x)]) for x in map(np.asarray, arrays)]
    return max([1.0, *[float(x.max(initial=0)) for x in finite]])


def check_first_order(rule, inputs, seed=0):
    """Values against the definition, gradients of all results together against its autograd, jvp by complex step."""
    book = Textbook(rule, inputs, seed)
    a = ar.attention(rule=rule, **inputs)
    for name, got, want in zip(("o", "alpha", "lse"), (a.o, a.alpha, a.lse), book.value, strict=True):
        assert (got is None) == (want is None), f"{name} is there, or it is not"
        if want is not None:
            close(got, np.broadcast_to(want, got.shape), name)
    do, dalpha, dlse = book.cotangents
    got, want = a.backward(do, dalpha=dalpha, dlse=dlse), book.gradients()
    assert set(got) == set(want)
    size = largest(want.values())
    for name in want:
        close(got[name], want[name], f"d{name}", size=size)
    for name, got, want in zip(
        ("o", "alpha", "lse"), ar.jvp(rule, inputs, book.tangents), book.derivatives(), strict=True
    ):
        if want is not None:
            close(got, np.broadcast_to(want, got.shape), f"the derivative of {name}", 1e-11)
    return book


def check_second_order(rule, inputs, book):
    """hvp against autograd of autograd, wherever the gradient itself is finite."""
    cotangents = tuple(book.cotangents)
    _, tape = ar.rules[rule].forward(**inputs)
    grads = ar.rules[rule].backward(cotangents, **tape)
    got, want = ar.hvp(rule, inputs, cotangents, book.tangents), book.bends()
    assert set(got) == set(want)
    size = largest(want.values())
    for name in want:
        finite = np.isfinite(grads[name])
        close(got[name][finite], want[name][finite], f"the derivative of d{name}", 1e-11, size)
