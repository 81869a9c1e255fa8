"""Attention's options written once more, by the indices of one score, for any array library.

A model is `score(xp, s, b, h, i, j, given)` or `mask(b, h, i, j, given)`: what becomes of the score of query i
and key j in batch b and head h. flex_attention takes it as it stands; with whole ranges for the indices it gives whole
matrices, in torch and in JAX, whose automatic differentiation then gives every gradient.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

import attention_ref as ar

B, H, L, S, D, E = 2, 6, 5, 11, 7, 3
BUCKETS, FARTHEST = 8, 20


@dataclass
class Case:
    """Inputs for `ar.attention`, and the same in index notation: arrays over (b,), (h,), …, the names of the models."""

    ours: dict
    given: dict
    chosen: tuple


def position(b, i, given):
    return i + given["offset"][b]


def softcap(xp, s, b, h, i, j, given):
    return given["softcap"] * xp.tanh(s / given["softcap"])


def bias(xp, s, b, h, i, j, given):
    return s + given["bias"][h, i, j]


def alibi(xp, s, b, h, i, j, given):
    return s - given["alibi_slopes"][h] * abs(j - position(b, i, given))


def relative(xp, s, b, h, i, j, given):
    return s + given["relative_table"][h, given["bucket"][j - position(b, i, given) + S + L]]


SCORES = {"softcap": softcap, "bias": bias, "alibi": alibi, "relative": relative}

MASKS = {
    "allowed": lambda b, h, i, j, given: given["allowed"][b, i, j],
    "banned": lambda b, h, i, j, given: ~given["banned"][h, i, j],
    "causal": lambda b, h, i, j, given: j <= position(b, i, given),
    "window": lambda b, h, i, j, given: (j >= position(b, i, given) - 3) & (j <= position(b, i, given) + 2),
    "lengths": lambda b, h, i, j, given: (i < given["q_lengths"][b]) & (j < given["k_lengths"][b]),
    "segments": lambda b, h, i, j, given: given["q_segments"][b, i] == given["k_segments"][b, j],
    "prefix": lambda b, h, i, j, given: (j <= position(b, i, given)) | (j < 4),
    "blocks": lambda b, h, i, j, given: position(b, i, given) // 3 == j // 3,
}
OTHERS = ("scale", "sink", "dropout")
OPTIONS = (*SCORES, *MASKS, *OTHERS)
POSITIONAL = {"alibi", "relative", "causal", "window", "prefix", "blocks"}

ALONE = [(), *((name,) for name in OPTIONS)]
PAIRS = list(combinations(OPTIONS, 2))
RANDOM = [tuple(np.random.default_rng(seed).permutation(OPTIONS)[: 3 + seed % 6].tolist()) for seed in range(24)]


def case(chosen, align="bottom_right", heads=2, seed=0):
    """Arrays for these options; k and v have so many heads."""
    rng = np.random.default_rng([seed, *(OPTIONS.index(name) for name in chosen)])
    chosen = (*chosen, "bias") if "banned" in chosen else chosen
    shapes = {"q": (B, H, L, D), "k": (B, heads, S, D), "v": (B, heads, S, E)}
    ours = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    given = {"offset": np.zeros(B, int)}
    if "lengths" in chosen:
        given |= {"q_lengths": np.array([3, 5]), "k_lengths": np.array([7, 0])}
        ours |= {name: given[name][:, None] for name in ("q_lengths", "k_lengths")}
    if POSITIONAL & set(chosen):
        ours["align"] = np.asarray(align)[:, None] if isinstance(align, list) else align
        if align == "bottom_right":
            given["offset"] = given.get("k_lengths", np.full(B, S)) - given.get("q_lengths", L)
        elif align != "top_left":
            given["offset"] = np.broadcast_to(align, (B,))
    if "softcap" in chosen:
        ours["softcap"] = given["softcap"] = np.array(1.7)
    if "bias" in chosen:
        given["bias"] = rng.standard_normal((H, L, S))
        given["banned"] = rng.random((H, L, S)) < 0.3 * ("banned" in chosen)
        ours["bias"] = np.where(given["banned"], -np.inf, given["bias"])
    if "alibi" in chosen:
        ours["alibi_slopes"] = given["alibi_slopes"] = rng.uniform(0.1, 1, H)
    if "relative" in chosen:
        ours |= {"relative_table": rng.standard_normal((H, BUCKETS)), "relative_max_distance": FARTHEST}
        given |= {"relative_table": ours["relative_table"], "bucket": t5(np.arange(-S - L, S + L + 1))}
    if "segments" in chosen:
        given |= {"q_segments": np.sort(rng.integers(0, 3, (B, L))), "k_segments": np.sort(rng.integers(0, 3, (B, S)))}
        ours |= {name: given[name][:, None] for name in ("q_segments", "k_segments")}
    if "causal" in chosen:
        ours["causal"] = True
    if "window" in chosen:
        ours["window"] = (3, 2)
    if "scale" in chosen:
        ours["scale"] = given["scale"] = np.array(0.4)
    if "sink" in chosen:
        ours["sink"] = given["sink"] = rng.standard_normal(H)
    if "dropout" in chosen:
        given["keep"] = rng.random((B, H, L, S)) < 0.7
        ours["dropout"] = given["keep"], 0.3
    masks = []
    if "allowed" in chosen:
        given["allowed"] = rng.random((B, L, S)) < 0.6
        given["allowed"][0, 1] = False
        masks.append(ar.masks.dense(given["allowed"][:, None]))
    masks += [ar.masks.prefix(4)] * ("prefix" in chosen) + [ar.masks.blocks(3)] * ("blocks" in chosen)
    for mask in masks:
        ours["allowed"] = ours["allowed"] & mask if "allowed" in ours else mask
    return Case(ours, given, tuple(chosen))


def t5(distance):
    """T5's buckets as its code has them: half for each side, half of a side exact, the rest by the logarithm."""
    side, exact = BUCKETS // 2, BUCKETS // 4
    far = np.maximum(abs(distance), 1)
    coarse = exact + (np.log(far / exact) / np.log(FARTHEST / exact) * (side - exact)).astype(int)
    return np.where(distance > 0, side, 0) + np.where(far < exact, abs(distance), np.minimum(coarse, side - 1))


def adjusted(xp, s, b, h, i, j, given, chosen):
    """The score after softcap and every bias, in this order."""
    for name, model in SCORES.items():
        if name in chosen:
            s = model(xp, s, b, h, i, j, given)
    return s


def permitted(b, h, i, j, given, chosen):
    allowed = j >= 0
    for name, model in MASKS.items():
        if name in chosen:
            allowed = allowed & model(b, h, i, j, given)
    return allowed


def whole(xp, q, k, v, given, chosen):
    """(o, alpha, lse) as whole matrices; the sink is one more column of the scores, whose weight is left out."""
    head = np.arange(H)
    k, v = (x[:, head // (H // x.shape[1])] for x in (k, v))
    b, h, i, j = (xp.asarray(x) for x in np.ix_(range(B), head, range(L), range(S)))
    s = xp.einsum("bhid,bhjd->bhij", q, k) * given.get("scale", D**-0.5)
    s = adjusted(xp, s, b, h, i, j, given, chosen)
    allowed = xp.broadcast_to(permitted(b, h, i, j, given, chosen), s.shape)
    if "sink" in chosen:
        column = xp.broadcast_to(given["sink"][:, None, None], (B, H, L, 1))
        s, allowed = (xp.concatenate(pair, -1) for pair in ((s, column), (allowed, xp.isfinite(column))))
    full = allowed.any(-1)[..., None]
    e = xp.exp(xp.where(allowed | ~full, s, -np.inf))
    z = e.sum(-1)[..., None]
    lse = xp.where(full, xp.log(z), -np.inf)[..., 0]
    alpha = xp.where(full, e / z, 0.0)[..., :S]
    kept = xp.where(given["keep"], alpha / 0.7, 0.0) if "dropout" in chosen else alpha
    return xp.einsum("bhij,bhje->bhie", kept, v), alpha, lse
