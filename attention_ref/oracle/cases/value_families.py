"""Inputs beyond Gaussian: families of q, k and v that bring out what Gaussian ones hide.

A family takes (rng, shape of q, of k, of v) and returns the three in float64; the cases round them.
"""

import numpy as np


def gaussian(rng, *shapes):
    return tuple(rng.standard_normal(shape) for shape in shapes)


def peaked(rng, *shapes):
    """Each query close to one key and long: nearly all of a row's weight on one score, far above the others."""
    q, k, v = gaussian(rng, *shapes)
    nearest = rng.integers(0, max(k.shape[-2], 1), q.shape[-2])
    direction = np.zeros((k.shape[-2], q.shape[-1]))
    shared = min(k.shape[-1], q.shape[-1])
    direction[:, :shared] = k[(0,) * (k.ndim - 2)][:, :shared]
    return 4 * (direction[nearest] + 0.1 * q), 2 * k, v


def tied(rng, *shapes):
    """Keys in equal pairs and queries that score whole rows the same: every maximum is taken twice."""
    q, k, v = gaussian(rng, *shapes)
    half = k.shape[-2] // 2
    k[..., half : 2 * half, :] = k[..., :half, :]
    q[..., ::3, :] = 0
    return q, k, v


def cancelling(rng, *shapes):
    """Values that almost cancel in the weighted sum, and rows of q and k whose products do."""
    q, k, v = gaussian(rng, *shapes)
    half = v.shape[-2] // 2
    v[..., half : 2 * half, :] = -v[..., :half, :] * (1 + 2.0**-6)
    k[..., k.shape[-2] // 2 : k.shape[-2] // 2 * 2, :] = k[..., : k.shape[-2] // 2, :]
    width = q.shape[-1] // 2
    q[..., width : 2 * width] = -q[..., :width] * (1 + 2.0**-6)
    return q, k, v


def huge(rng, *shapes):
    """Scores in the thousands: exp overflows unless the row's maximum is subtracted, in every format."""
    q, k, v = gaussian(rng, *shapes)
    return 24 * q, 24 * k, 100 * v


def tiny(rng, *shapes):
    """Numbers near the bottom of float16's range: what is flushed to zero or divided by an epsilon shows."""
    q, k, v = gaussian(rng, *shapes)
    return q * 2.0**-8, k * 2.0**-8, v * 2.0**-10


def shifted(rng, *shapes):
    """A common offset in all keys: scores far from zero, with small differences that decide."""
    q, k, v = gaussian(rng, *shapes)
    return q, k + 6, v - 3


def correlated(rng, *shapes):
    """Rows as real activations have them: neighbors alike, a few channels ten times the others."""
    return tuple(activations(rng, shape) for shape in shapes)


def activations(rng, shape):
    steps = rng.standard_normal(shape)
    walk = np.cumsum(steps, axis=-2) / np.sqrt(np.arange(1, shape[-2] + 1))[:, None]
    loud = np.where(np.arange(shape[-1]) % 13 == 5, 5, 1)
    return (0.8 * walk + 0.4 * rng.standard_normal(shape)) * loud


def integers(rng, *shapes):
    """Multiples of 1/8 up to 15/8: exact in every format down to float8."""
    return tuple(rng.integers(-15, 16, shape) / 8 for shape in shapes)


def first_key(rng, *shapes):
    """The first key far above all others, then falling: an online softmax never has to rescale."""
    q, k, v = gaussian(rng, *shapes)
    return np.abs(q), k + np.linspace(3, -3, k.shape[-2])[:, None], v


def last_key(rng, *shapes):
    """Scores that rise from key to key: an online softmax has to rescale in every tile."""
    q, k, v = gaussian(rng, *shapes)
    return np.abs(q), k + np.linspace(-3, 3, k.shape[-2])[:, None], v


def one_hot_values(rng, *shapes):
    """Values that are rows of the identity: the output shows the weights themselves."""
    q, k, v = gaussian(rng, *shapes)
    return q, k, np.broadcast_to(np.arange(v.shape[-2])[:, None] % v.shape[-1] == np.arange(v.shape[-1]), v.shape) * 1.0


def wild_values(rng, *shapes):
    """Values of very different sizes from key to key."""
    q, k, v = gaussian(rng, *shapes)
    return q, k, v * 2.0 ** rng.integers(-6, 7, (v.shape[-2], 1))


def alike(rng, *shapes):
    """Each query looks for its own key's group: eight keys, near and far, hold its weight whatever the length."""
    q, k, v = gaussian(rng, *shapes)
    n, rows = k.shape[-2], q.shape[-2]
    group = np.where(np.arange(n) % 2, rng.integers(0, -(-n // 8), n), np.arange(n) // 8)
    codes = rng.standard_normal((-(-n // 8), max(q.shape[-1], k.shape[-1])))
    own = np.clip(np.arange(rows) + n - rows, 0, n - 1)
    return q / 2 + 2 * codes[group[own], : q.shape[-1]], k / 2 + codes[group, : k.shape[-1]], v


FAMILIES = {
    family.__name__: family
    for family in (
        *(gaussian, peaked, tied, cancelling, huge, tiny, shifted, correlated, integers, first_key, last_key),
        *(one_hot_values, wild_values, alike),
    )
}
