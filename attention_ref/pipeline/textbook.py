"""Attention as a textbook writes it: the whole pipeline on whole matrices, for the reader and as the definition.

It shares with the fast path what is no arithmetic of its own: the definitions of the score and of the normalizer, the
rule's own scale, and T5's buckets.
"""

import numpy as np

from attention_ref import normalize as normalizers
from attention_ref.adjust.relative import t5_bucket
from attention_ref.op.autograd import plain


def attention(xp, pipeline, q, k, v, *, bias=None, scale=None, softcap=None, sink=None, dropout=None, **given):
    k, v = repeated(q, k), repeated(q, v)
    s = pipeline.score.definition(xp, q, k, **{name: given[name] for name in pipeline.parameters if name in given})
    own_scale = pipeline.own_scale(q) if pipeline.own_scale else 1
    s = s * (own_scale if scale is None else scale)
    if softcap is not None:
        s = softcap * xp.tanh(s / softcap)
    queries, keys = q.shape[-2], v.shape[-2]
    distance = positions_from_query(queries, keys, given)
    allowed = allowed_pairs(queries, keys, distance, given)
    if bias is not None:
        banned = np.isneginf(np.real(plain(bias)))
        s, allowed = s + xp.where(banned, 0, bias), allowed & ~banned
    if "alibi_slopes" in given:
        s = s - given["alibi_slopes"][..., None, None] * np.abs(distance)
    if "relative_table" in given:
        s = s + table_entries(xp, given["relative_table"], distance, given)
    s = xp.where(allowed, s, -np.inf)
    with_sink = {} if sink is None else {"sink": sink}
    normalizer = normalizer_of(pipeline, given, with_sink)
    normalized = normalizer.definition(xp, s, **with_sink)
    alpha, lse = normalized if isinstance(normalized, tuple) else (normalized, None)
    empty = ~np.any(np.broadcast_to(allowed, s.shape), axis=-1, keepdims=True)
    if given.get("empty_row") in ("nan", "uniform"):
        alpha = xp.where(empty, np.nan if given["empty_row"] == "nan" else 1 / max(keys, 1), alpha)
        allowed = allowed | empty
    kept = alpha if dropout is None else xp.where(dropout, alpha / (1 - given["dropout_p"]), 0)
    terms = kept[..., None] * v[..., None, :, :]
    return xp.sum(xp.where(np.asarray(allowed)[..., None], terms, 0), axis=-2), alpha, lse


def repeated(q, x):
    """Key heads written out once for every query head: head h reads key head h // r."""
    if q.ndim < 3 or x.ndim < 3 or not 1 < x.shape[-3] < q.shape[-3]:
        return x
    r = q.shape[-3] // x.shape[-3]
    return x[..., np.arange(q.shape[-3]) // r, :, :]


def normalizer_of(pipeline, given, with_sink):
    name = given.get("normalize", pipeline.own_normalize)
    return normalizers.ops[f"normalize.{name}_sink" if with_sink else f"normalize.{name}"].module


def positions_from_query(queries, keys, given):
    """j - (i + offset) for every pair: how far key j stands after query i's own position."""
    align = given.get("align")
    if isinstance(align, str) and align == "bottom_right":
        offset = given.get("k_lengths", keys) - np.asarray(given.get("q_lengths", queries))
    else:
        offset = np.asarray(0 if align is None or isinstance(align, str) else align)
    i, j = np.arange(queries)[:, None], np.arange(keys)
    return j - (i + offset[..., None, None])


def allowed_pairs(queries, keys, distance, given):
    i, j = np.arange(queries)[:, None], np.arange(keys)
    left, right = given.get("window", (None, None))
    allowed = np.ones((queries, keys), dtype=bool)
    if given.get("causal"):
        allowed = allowed & (distance <= 0)
    if left is not None:
        allowed = allowed & (distance >= -left)
    if right is not None:
        allowed = allowed & (distance <= right)
    if "q_lengths" in given:
        allowed = allowed & (i < given["q_lengths"][..., None, None])
    if "k_lengths" in given:
        allowed = allowed & (j < given["k_lengths"][..., None, None])
    if "q_segments" in given:
        here, there = given["q_segments"][..., :, None], given["k_segments"][..., None, :]
        allowed = allowed & (here == there) & (here >= 0)
    if "mask" in given:
        lengths = given.get("q_lengths"), given.get("k_lengths")
        allowed = allowed & given["mask"].dense(queries, keys, given.get("align"), *lengths)
    return allowed & given.get("allowed", True)


def table_entries(xp, table, distance, given):
    """table[..., bucket(i, j)], written as a product with one-hot rows."""
    n = table.shape[-1]
    bucket = t5_bucket(distance, n, given.get("relative_max_distance", 128), given.get("relative_bidirectional", True))
    return xp.sum(table[..., None, None, :] * (bucket[..., None] == np.arange(n)), axis=-1)
