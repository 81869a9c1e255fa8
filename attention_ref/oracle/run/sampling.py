"""Which rows and keys a sample looks at, and how likely it is to miss a fault."""

from math import exp, lgamma

import numpy as np

BLOCK = 64  # the tiles of kernels are multiples of 64, or divide it


def chosen(length, count, rng):
    """`count` positions: one in each of as many equal parts, half at random, a quarter each on either side of a border.

    The first and the last position are among them. Borders are those of blocks of 64.
    """
    if count >= length:
        return np.arange(length)
    edges = np.linspace(0, length, count + 1)
    drawn = (edges[:-1] + rng.random(count) * np.diff(edges)).astype(int)
    border = np.round(drawn / BLOCK).astype(int) * BLOCK
    kind = np.arange(count) % 4
    drawn = np.where(kind == 1, border - 1, np.where(kind == 3, border, drawn))
    drawn[-1], drawn[0] = length - 1, 0
    found = np.unique(np.clip(drawn, 0, length - 1))
    rest = np.setdiff1d(np.arange(length), found)
    return np.sort(np.concatenate([found, rng.choice(rest, count - len(found), replace=False)]))


def missed(length, count, faulty):
    """The probability that none of `faulty` positions, anywhere among `length`, is one of the `count` sampled ones."""
    if faulty + count > length:
        return 0.0
    return exp(log_binomial(length - faulty, count) - log_binomial(length, count))


def log_binomial(n, k):
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def block_missed(positions, length):
    """The probability that a block of 64, any of them, has none of the positions in it."""
    return 1 - len(np.unique(positions // BLOCK)) / -(-length // BLOCK)


def one_key_missed(facts):
    """The probability that a sample misses one key left out in one block of rows, where all are equally likely."""
    block_seen = 1 - block_missed(np.array(facts["rows"]), facts["of_rows"])
    return 1 - block_seen * facts["detectable_key_share"]


def whole(facts):
    """Whether all rows, and the keys if there are any, are in the sample."""
    return all(len(facts[name]) in (0, facts[f"of_{name}"]) for name in ("rows", "keys"))
