"""Attention in Python's `decimal`, written from the formulas in the documents; nothing of the package is used.

Arrays are nested lists of `Decimal`. Gradients are difference quotients: at 150 digits a step of 1e-75 leaves 70
right, and what is below 1e-60 is zero; what saturates has gradients far smaller, and needs more digits.
"""

from decimal import Decimal, getcontext
from itertools import product

import numpy as np

DIGITS = 150
FORBIDDEN = None


def dot(x, y):
    return sum((a * b for a, b in zip(x, y, strict=True)), Decimal(0))


def tanh(x):
    up, down = x.exp(), (-x).exp()
    return (up - down) / (up + down)


def norm(x):
    return dot(x, x).sqrt()


def mapped(w, x):
    return [dot(row, x) for row in w]


def score(rule, q, k, p, j):
    """The score of one query and one key; j is the key's position."""
    joined = [*q, *k]
    if rule == "scaled_dot":
        return dot(q, k) / Decimal(len(q)).sqrt()
    if rule in ("dot", "double_softmax"):
        return dot(q, k)
    if rule == "general":
        return dot(q, mapped(p["w"], k))
    if rule == "additive":
        hidden = zip(mapped(p["w_q"], q), mapped(p["w_k"], k), p["b"], strict=True)
        return dot(p["w_s"], [tanh(a + b + c) for a, b, c in hidden])
    if rule == "concat_linear":
        return dot(p["w"], joined) + p["b"]
    if rule == "concat_tanh_sum":
        return sum(tanh(a + b) for a, b in zip(mapped(p["w"], joined), p["b"], strict=True))
    if rule == "positional_concat":
        return dot(p["w"][j], joined) + p["b"][j]
    if rule == "key_norm":
        return dot(q, k) * norm(k)
    if rule == "cosine":
        return dot(q, k) / (norm(q) * norm(k))
    raise NotImplementedError(rule)


def softmax(s, more=()):
    e = [Decimal(0) if x is FORBIDDEN else x.exp() for x in s]
    z = sum(e, Decimal(0)) + sum((x.exp() for x in more), Decimal(0))
    return [x / z if z else Decimal(0) for x in e], z.ln() if z else Decimal("-Infinity")


def weights(kind, s, sink):
    """(the weights of a row, lse or None)"""
    if kind == "softmax":
        return softmax(s, sink)
    if kind == "softmax_off_by_one":
        return softmax(s, [Decimal(0)])
    if kind == "sigmoid":
        return [Decimal(0) if x is FORBIDDEN else 1 / (1 + (-x).exp()) for x in s], None
    if kind == "double_softmax":
        first, _ = softmax(s)
        return softmax([FORBIDDEN if x is FORBIDDEN else a for x, a in zip(s, first, strict=True)])[0], None
    if kind == "sparsemax":
        z = sorted((x for x in s if x is not FORBIDDEN), reverse=True)
        sizes = [n for n in range(1, len(z) + 1) if 1 + n * z[n - 1] > sum(z[:n])]
        tau = (sum(z[: sizes[-1]]) - 1) / sizes[-1] if sizes else Decimal(0)
        return [Decimal(0) if x is FORBIDDEN else max(x - tau, Decimal(0)) for x in s], None
    raise NotImplementedError(kind)


def allowed(options, inputs, i, j, queries, keys):
    offset = {"bottom_right": keys - queries, "top_left": 0, None: 0}.get(options.get("align"), options.get("align"))
    left, right = options.get("window", (None, None))
    mask = inputs.get("allowed")
    bias = inputs.get("bias")
    return (
        (mask is None or mask[i % len(mask)][j])
        and (bias is None or bias[i % len(bias)][j] != Decimal("-Infinity"))
        and not (options.get("causal") and j > i + offset)
        and (left is None or j >= i + offset - left)
        and (right is None or j <= i + offset + right)
        and ("q_segments" not in inputs or inputs["q_segments"][i] == inputs["k_segments"][j] >= 0)
    )


def attention(rule, inputs, options):
    """(o, alpha, lse) of one head, as nested lists."""
    q, k, v = (inputs[name] for name in "qkv")
    queries, keys = len(q), len(v)
    kind = options.get("normalize", "double_softmax" if rule == "double_softmax" else "softmax")
    sink = [inputs["sink"]] if "sink" in inputs else []
    o, alphas, lses = [], [], []
    for i in range(queries):
        row = []
        for j in range(keys):
            if not allowed(options, inputs, i, j, queries, keys):
                row.append(FORBIDDEN)
                continue
            plain = "dot" if rule == "scaled_dot" and "scale" in inputs else rule
            s = score(plain, q[i], k[i] if rule == "positional_concat" else k[j], inputs, j)
            s *= inputs.get("scale", 1)
            if "softcap" in inputs:
                s = inputs["softcap"] * tanh(s / inputs["softcap"])
            row.append(s + inputs["bias"][i % len(inputs["bias"])][j] if "bias" in inputs else s)
        alpha, lse = weights(kind, row, sink)
        kept = alpha
        if "dropout" in inputs:
            p = Decimal(options["dropout_p"])
            kept = [a / (1 - p) if on else Decimal(0) for a, on in zip(alpha, inputs["dropout"][i], strict=True)]
        seen = [j for j in range(keys) if row[j] is not FORBIDDEN]
        o.append([sum((kept[j] * v[j][c] for j in seen), Decimal(0)) for c in range(len(v[0]) if v else 0)])
        alphas.append(alpha)
        lses.append(lse)
    return {"o": o, "alpha": alphas} | ({} if None in lses else {"lse": lses})


def flat(x):
    return [y for inner in x for y in flat(inner)] if isinstance(x, list) else [x]


def exact(array):
    """A NumPy array as nested lists: floats as `Decimal`, exactly."""
    convert = Decimal if array.dtype.kind == "f" else (lambda x: x)
    return [exact(row) for row in array] if array.ndim else convert(array.item())


def rounded(x, digits):
    return 0.0 if abs(x) < Decimal(10) ** (-digits * 2 // 5) else float(x)


def evaluate(rule, arrays, options, cotangents, digits=DIGITS):
    """({result: floats}, {input: floats}), each flat and correctly rounded."""
    getcontext().prec = digits
    step = Decimal(10) ** -(digits // 2)
    weights_of = {name: flat(exact(x)) for name, x in cotangents.items()}

    def projected(results):
        return sum((dot(w, flat(results[name])) for name, w in weights_of.items()), Decimal(0))

    given = {name: exact(x) for name, x in arrays.items()}
    results = attention(rule, given, options)
    base = projected(results)
    gradients = {}
    for name, x in arrays.items():
        if x.dtype.kind != "f":
            continue
        gradients[name] = []
        for at in product(*map(range, x.shape)):
            moved = np.array(x, object)
            for place in product(*map(range, x.shape)):
                moved[place] = Decimal(float(x[place])) + (step if place == at else 0)
            stepped = attention(rule, given | {name: moved.tolist()}, options)
            gradients[name].append(rounded((projected(stepped) - base) / step, digits))
    return {name: [rounded(y, digits) for y in flat(x)] for name, x in results.items()}, gradients
