"""How the arrays lie in memory: the same numbers as strided, transposed, reversed or read-only views."""

import numpy as np


def contiguous(x):
    return np.ascontiguousarray(x)


def strided(x):
    """Every other element along the width of a wider array."""
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    view = wide[..., ::2]
    view[...] = x
    return view


def transposed(x):
    """The last two axes swapped in memory."""
    return np.swapaxes(np.ascontiguousarray(np.swapaxes(x, -1, -2)), -1, -2)


def heads_inside(x):
    """Heads between rows and width in memory, as a projection leaves them: a view of BLHD as BHLD."""
    if x.ndim < 3:
        return transposed(x)
    return np.swapaxes(np.ascontiguousarray(np.swapaxes(x, -3, -2)), -3, -2)


def backwards(x):
    """Rows stored last first: a negative stride."""
    return np.ascontiguousarray(x[..., ::-1, :])[..., ::-1, :]


def offset(x):
    """The inside of a larger array, one element away from any alignment."""
    larger = np.zeros(tuple(n + 1 for n in x.shape), x.dtype)
    view = larger[tuple(slice(1, None) for _ in x.shape)]
    view[...] = x
    return view


def read_only(x):
    x = np.ascontiguousarray(x)
    x.flags.writeable = False
    return x


LAYOUTS = {f.__name__: f for f in (contiguous, strided, transposed, heads_inside, backwards, offset, read_only)}
