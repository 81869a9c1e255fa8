"""Relative-position bias: a learned number for every bucket of relative positions, added to the scores.

The table is n numbers for each of the leading axes, such as (h, n) for scores (b, h, i, j).
"""

from bisect import bisect_left
from math import prod

import numpy as np

from attention_ref.errors import OptionError
from attention_ref.op.arrays import reduce_to

SIGNATURE = "s[... i j] relative_table[... n] bucket<n(... i j) -> biased[... i j]"
FORMULA = r"s_{ij} \leftarrow s_{ij} + t_{\beta(j - (i + \text{offset}))}"
SOURCE = "Shaw, Uszkoreit & Vaswani 2018; Raffel et al. 2020 (T5)"


def definition(xp, s, relative_table, bucket):
    chosen = bucket[..., None] == np.arange(np.shape(relative_table)[-1])
    wide = relative_table[..., None, None, :] * np.ones(chosen.shape)
    return s + xp.sum(xp.where(chosen, wide, 0), axis=-1)


def forward(s, relative_table, bucket):
    table = relative_table
    *leading, i, j = np.broadcast_shapes(s.shape, (*table.shape[:-1], 1, 1), bucket.shape)
    n, rows = table.shape[-1], prod(leading)
    at = np.arange(rows)[:, None, None], np.broadcast_to(bucket, (*leading, i, j)).reshape(rows, i, j)
    bias = np.broadcast_to(table, (*leading, n)).reshape(rows, n)[at]
    return s + bias.reshape(*leading, i, j), {"at": at, "shape": (*leading, i, j), "n": n}


def backward(dbiased, *, at, shape, n):
    *leading, i, j = shape
    dtable = np.zeros((prod(leading), n), dbiased.dtype)
    np.add.at(dtable, at, reduce_to(dbiased, shape).reshape(prod(leading), i, j))
    return {"s": dbiased, "relative_table": dtable.reshape(*leading, n)}


def t5_bucket(relative, buckets=32, max_distance=128, bidirectional=True):
    """T5's bucket of every relative position (`positions.relative`: key minus query), integers below `buckets`.

    Half of the buckets of a direction hold one distance each; the edges of the others grow geometrically up to
    max_distance, and the last holds all beyond. With bidirectional=False all keys after the query share bucket 0.
    """
    relative = np.asarray(relative)
    one_way = buckets // 2 if bidirectional else buckets
    exact = one_way // 2
    if exact < 1 or max_distance <= exact:
        raise OptionError(
            f"t5_bucket: {buckets} buckets put {exact} distances in buckets of their own; "
            f"that must be at least 1 and less than max_distance = {max_distance}"
        )
    distance = np.abs(relative) if bidirectional else np.maximum(-relative, 0)
    coarse = exact + np.searchsorted(edges(exact, one_way - exact, max_distance), distance, side="right")
    side = np.where(relative > 0, one_way, 0) if bidirectional else 0
    return side + np.where(distance < exact, distance, coarse)


def edges(exact, coarse, max_distance):
    """The least distance of every coarse bucket but the first.

    Bucket k begins at exact * (max_distance / exact)**(k / coarse); in integers, so that no logarithm rounds it away.
    """
    bounds = [exact ** (coarse - k) * max_distance**k for k in range(1, coarse)]
    return [bisect_left(range(max_distance), bound, key=lambda d: d**coarse) for bound in bounds]
