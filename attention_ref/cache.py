"""Key/value caches as functions on arrays: one that grows, one of fixed size, one in pages; and how they are attended.

Every function returns new arrays and writes into none.
"""

import numpy as np

from attention_ref.errors import OptionError, ShapeError


def append(cache, new):
    """A growing cache [... j d] with the new positions behind it; `cache=None` starts one."""
    if cache is None:
        return np.array(new)
    cache, new = np.asarray(cache), np.asarray(new)
    if cache.ndim != new.ndim or cache.shape[:-2] != new.shape[:-2] or cache.shape[-1] != new.shape[-1]:
        raise ShapeError(f"cache.append: {new.shape} does not continue {cache.shape}; only the positions may differ")
    return np.concatenate([cache, new], axis=-2)


def write(cache, new, lengths):
    """(cache, lengths) of a static cache [... n d] after the new positions [... t d] were put behind the valid ones.

    `lengths` counts the valid positions, over the leading axes by broadcasting.
    """
    cache, new = np.array(cache), np.asarray(new)
    lengths = counts("cache.write", lengths)
    end = lengths + new.shape[-2]
    if cache.shape[:-2] != new.shape[:-2] or cache.shape[-1] != new.shape[-1]:
        raise ShapeError(f"cache.write: {new.shape} does not fit {cache.shape}; only the positions may differ")
    if end.size and end.max() > cache.shape[-2]:
        raise ShapeError(f"cache.write: {end.max()} positions do not fit a cache of {cache.shape[-2]}")
    index = np.broadcast_to(lengths[..., None], (*new.shape[:-2], 1)) + np.arange(new.shape[-2])
    np.put_along_axis(cache, index[..., None], new, axis=-2)
    return cache, end


def gather(pages, table):
    """The contiguous keys or values [... n·page d] of a paged cache [pages ... page d] by a block table [b n].

    `pages` is [p h page d], a pool that the whole batch shares; `table` says which pages make up each sequence, in
    order, with -1 behind the last. The result is [b h n·page d]; give `k_lengths` to attention, so that nobody attends
    to what lies behind a sequence.
    """
    pages, table = np.asarray(pages), counts("cache.gather", table, low=-1)
    if pages.ndim != 4 or table.ndim != 2:
        raise ShapeError(f"cache.gather: pages is [p h page d] and table [b n]; got {pages.shape} and {table.shape}")
    if table.size and table.max() >= pages.shape[0]:
        raise OptionError(f"cache.gather: the table names page {table.max()}; there are {pages.shape[0]}")
    found = pages[table]
    joined = np.moveaxis(found, 2, 1)
    return joined.reshape(*joined.shape[:2], -1, pages.shape[-1])


def counts(owner, values, low=0):
    values = np.asarray(values)
    if values.dtype.kind not in "iu" or (values.size and values.min() < low):
        raise OptionError(f"{owner}: counts must be integers from {low}; got {values.dtype} {values.tolist()}")
    return values
