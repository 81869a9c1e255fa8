"""Which rows and keys a sample looks at, and how likely a fault is to lie beside it."""

from math import exp, lgamma

import numpy as np

BLOCK = 64  # the tiles of kernels are multiples of 64, or divide it
SHARES = (0.001, 0.01, 0.1)


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
    drawn[0], drawn[-1] = 0, length - 1
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
