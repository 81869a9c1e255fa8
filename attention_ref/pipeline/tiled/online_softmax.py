"""The online softmax."""

import numpy as np


def across(dalpha, alpha, along, out=None):
    """ds, from what the whole row has along alpha: the sum of dalpha * alpha."""
    return np.multiply(alpha, np.subtract(dalpha, along, out=out), out=out)


def more(s, m, z, room, reach=np.inf, out=None):
    """One tile more of rows whose scores so far were shifted by m and, so shifted, had the sum of exponentials z.

    The shift grows only where a score exceeds it by more than `room`: 0 will do where a row's scores stay within a
    `reach` no larger than that on both sides. Returns e, the tile's own exponentials, written over s or into out; the
    factor for what was summed with the old shift, None where that is the new one too; m and z.
    """
    out = s if out is None else out
    old, m = m, shift(s, m, room, reach)
    less = unshifted(m)
    e = np.exp(np.subtract(s, less, out=out) if less.any() else s, out=out)
    if m is old:
        return e, None, m, z + row_sums(e)
    factor = np.exp(old - less)
    return e, factor, m, z * factor + row_sums(e)


def room(dtype):
    """How far a score may exceed the shift without exp coming near the end of its range."""
    return np.log(np.finfo(dtype).max) / 4


def shift(s, m, room, reach):
    """The shift of more(), m itself where that is to stay: each row's depends on the row alone."""
    small, new = np.less_equal(reach, room), np.maximum(m, 0)
    if not small.all():
        top = np.max(s.real, axis=-1, keepdims=True, initial=-np.inf)
        new = np.where(small, new, np.where(top > m + room, top, m))
    return m if (new == m).all() else new


def row_sums(e):
    return e @ np.ones((e.shape[-1], 1), e.dtype)


def whole(m, z):
    """(what the summed exponentials are divided by, lse) of rows that are complete."""
    return np.where(z == 0, 1, z), np.log(z) + unshifted(m)


def known(s, lse):
    """The weights of a tile of rows whose lse is known, written over s."""
    return np.exp(np.subtract(s, unshifted(lse), out=s), out=s)


def share(m, lse):
    """What the exponentials that were shifted by m are multiplied with to be the weights."""
    return np.exp(unshifted(m) - unshifted(lse))


def unshifted(m):
    return np.where(m.real == -np.inf, 0, m)
