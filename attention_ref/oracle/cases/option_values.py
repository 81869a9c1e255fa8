"""Option values that are drawn: masks, lengths, segments, biases… A recipe takes (rng, size) and returns the value.

Where a case gives an option as a string that starts with '@', the recipe of that name makes it.
"""

from collections.abc import Callable

import numpy as np

RECIPES: dict[str, Callable] = {}


def recipe(function):
    """Register a function as the recipe "@" followed by its name."""
    RECIPES[function.__name__] = function
    return function


@recipe
def half(rng, size):
    """A mask of its own for every head, 0.6 of it allowed, each query allowed at least one key."""
    allowed = rng.random((size.batch, size.heads, size.queries, size.keys)) < 0.6
    allowed[..., np.arange(size.queries), np.arange(size.queries) % size.keys] = True
    return allowed


@recipe
def one_for_all(rng, size):
    return half(rng, size)[0, 0]


@recipe
def padding(rng, size):
    """(batch, 1, 1, keys): the keys after each sequence's end are closed."""
    return np.arange(size.keys) < lengths_of(size.batch, size.keys)[:, None, None, None]


@recipe
def dead_rows(rng, size):
    allowed = half(rng, size)
    allowed[..., ::3, :] = False
    return allowed


@recipe
def dead_columns(rng, size):
    allowed = half(rng, size)
    allowed[..., 1::4] = False
    return allowed


@recipe
def nothing(rng, size):
    return np.zeros((size.queries, size.keys), bool)


@recipe
def one_key_each(rng, size):
    return np.arange(size.keys) == (np.arange(size.queries)[:, None] * 5) % size.keys


@recipe
def first_tile_dead(rng, size):
    """The first 16 keys closed to every query: the first tile of an online softmax has no maximum."""
    allowed = half(rng, size)
    allowed[..., :16] = False
    allowed[..., -1] = True
    return allowed


@recipe
def only_last_key(rng, size):
    return np.broadcast_to(np.arange(size.keys) == size.keys - 1, (size.queries, size.keys)).copy()


@recipe
def blocks(rng, size):
    """16 x 16 blocks open or closed, as block-sparse attention has them."""
    i, j = -(-size.queries // 16), -(-size.keys // 16)
    open_blocks = rng.random((i, j)) < 0.5
    open_blocks[:, 0] = True
    return np.kron(open_blocks, np.ones((16, 16), bool))[: size.queries, : size.keys]


def lengths_of(batch, n):
    """From nearly all to a third, each sequence another, none of them a multiple of a tile."""
    return np.array([n - (b * (2 * n // 3)) // max(batch - 1, 1) - (b == 0 and n > 2) for b in range(batch)])


@recipe
def k_lengths(rng, size):
    return lengths_of(size.batch, size.keys)[:, None]


@recipe
def q_lengths(rng, size):
    return lengths_of(size.batch, size.queries)[:, None]


@recipe
def zero_length(rng, size):
    lengths = k_lengths(rng, size)
    lengths[-1] = 0
    return lengths


@recipe
def full_lengths(rng, size):
    return np.full((size.batch, 1), size.keys)


@recipe
def offsets(rng, size):
    return np.arange(size.batch)[:, None] * 3 + 1


@recipe
def q_segments(rng, size):
    return documents(size.queries)


@recipe
def k_segments(rng, size):
    return documents(size.keys)


@recipe
def padded_segments(rng, size):
    ids = documents(size.keys)
    ids[-2:] = -1
    return ids


def documents(n):
    """Three documents of unequal length."""
    return np.searchsorted([n // 5, n // 5 + n // 3], np.arange(n), side="right")


@recipe
def bias(rng, size):
    return rng.standard_normal((size.batch, size.heads, size.queries, size.keys))


@recipe
def bias_by_head(rng, size):
    return rng.standard_normal((size.heads, size.queries, size.keys))


@recipe
def bias_on_keys(rng, size):
    return 2 * rng.standard_normal((size.batch, 1, 1, size.keys))


@recipe
def bias_on_rows(rng, size):
    """Constant along each row: softmax takes no notice, lse does."""
    return 3 * rng.standard_normal((size.queries, 1))


@recipe
def bias_with_holes(rng, size):
    return np.where(half(rng, size), bias(rng, size), -np.inf)


@recipe
def bias_with_dead_rows(rng, size):
    return np.where(dead_rows(rng, size), bias(rng, size), -np.inf)


@recipe
def bias_of_minus_1e4(rng, size):
    """The finite stand-in for -inf: a row of nothing but -10000 is an ordinary row."""
    return np.where(dead_rows(rng, size), 0.0, -10000.0)[0]


@recipe
def slopes(rng, size):
    return 2.0 ** -np.arange(1.0, size.heads + 1)


@recipe
def relative_table(rng, size):
    return rng.standard_normal((size.heads, 32))


@recipe
def sink(rng, size):
    return rng.standard_normal(size.heads)


@recipe
def strong_sink(rng, size):
    return np.full(size.heads, 12.0) + np.arange(size.heads)


@recipe
def scale_by_head(rng, size):
    return 2.0 ** -np.arange(1.0, size.heads + 1)[:, None, None]


@recipe
def dropout(rng, size):
    return rng.random((size.batch, size.heads, size.queries, size.keys)) < 0.75, 0.25


@recipe
def heavy_dropout(rng, size):
    """Some rows lose every key."""
    keep = rng.random((size.batch, size.heads, size.queries, size.keys)) < 0.25
    keep[..., 1::3, :] = False
    return keep, 0.75


def make(value, rng, size):
    """An option's value: drawn if a recipe is named, as it is otherwise."""
    if isinstance(value, str) and value.startswith("@"):
        return RECIPES[value[1:]](rng, size)
    return value
