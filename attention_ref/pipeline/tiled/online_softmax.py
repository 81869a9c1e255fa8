"""The online softmax: softmax over rows whose scores come tile by tile (Milakov & Gimelshein 2018; FlashAttention).

A row is carried as a shift m and the sum z = Σ e^(s - m) of the scores so far. A tile of scores s adds to it:

    m' = a shift that keeps e^(s - m') in range
    z' = z · e^(m - m') + Σ e^(s - m')
    o' = o · e^(m - m') + e^(s - m') v              the output, not yet divided by z

and after the last tile lse = m + log z, alpha = e^(s - lse) and o = o / z. Any shift gives the same result in exact
arithmetic: the textbook takes the row's maximum, and here m moves only when exp would leave its range.
"""

import numpy as np


def headroom(dtype):
    """How far a score may exceed the shift: a quarter of what exp can take, so that sums and products fit as well."""
    return np.log(np.finfo(dtype).max) / 4


def online_softmax_step(s, m, z, room, largest=np.inf, out=None):
    """Add one tile of scores to the running (m, z): (e^(s - m'), factor, m', z').

    `factor` is e^(m - m'), with which what was summed so far has to be multiplied; None where the shift has not moved.
    `largest` is what no score of a row exceeds, up or down, where that is known without looking. The exponentials are
    written over s, or into `out`.
    """
    out = s if out is None else out
    old, m = m, next_shift(s, m, room, largest)
    subtrahend = finite_shift(m)
    if subtrahend.any():
        s = np.subtract(s, subtrahend, out=out)
    e = np.exp(s, out=out)
    if m is old:
        return e, None, m, z + row_sums(e)
    factor = np.exp(old - subtrahend)
    return e, factor, m, z * factor + row_sums(e)


def next_shift(s, m, room, largest):
    """The shift after this tile, m itself where it need not move; each row's depends on that row alone.

    A row whose scores all stay within the headroom needs no shift at all: 0 will do. Another moves to its tile's
    maximum only when that exceeds the present shift by more than the headroom.
    """
    is_small = np.less_equal(largest, room)
    new = np.maximum(m, 0)
    if not is_small.all():
        top = np.max(s.real, axis=-1, keepdims=True, initial=-np.inf)
        new = np.where(is_small, new, np.where(top > m + room, top, m))
    return m if (new == m).all() else new


def row_sums(e):
    """Σ_j e_ij as [... i 1], by a product: at 256 x 512 in float32 BLAS takes 0.26 of what np.sum takes."""
    return e @ np.ones((e.shape[-1], 1), e.dtype)


def divisor_and_lse(m, z):
    """What o is divided by, and lse = m + log z, of rows that are complete; 1 and -inf for a row without keys."""
    return np.where(z == 0, 1, z), np.log(z) + finite_shift(m)


def weights_from_lse(s, lse):
    """alpha = e^(s - lse), written over s."""
    return np.exp(np.subtract(s, finite_shift(lse), out=s), out=s)


def rescale_factor(m, lse):
    """e^(m - lse): turns e^(s - m) into weights."""
    return np.exp(finite_shift(m) - finite_shift(lse))


def scores_cotangent(dalpha, alpha, row, out=None):
    """ds = alpha · (dalpha - row), where row is Σ_j dalpha_j alpha_j of the whole row, over all its tiles."""
    return np.multiply(alpha, np.subtract(dalpha, row, out=out), out=out)


def finite_shift(m):
    """m, with 0 for the -inf of a row that has seen no key: -inf - -inf would be NaN."""
    return np.where(m.real == -np.inf, 0, m)
