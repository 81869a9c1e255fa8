"""Key/value caches as functions on arrays: one that grows, one of fixed size, one in pages; and merging parts by lse.

Every function returns new arrays and writes into none.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from attention_ref.errors import OptionError, ShapeError
from attention_ref.layer import merge as merging
from attention_ref.op.arrays import as_array, fits


def append(cache: npt.ArrayLike | None, new: npt.ArrayLike) -> np.ndarray:
    """A growing cache [... j d] with the new positions after it; `cache=None` starts one.

    >>> import numpy as np
    >>> import attention_ref as ar
    >>> k = ar.cache.append(None, np.zeros((2, 5, 4)))  # a prompt of 5
    >>> ar.cache.append(k, np.ones((2, 1, 4))).shape  # and one token more
    (2, 6, 4)
    """
    new = entries("append", "new", new)
    if cache is None:
        return new.copy()
    cache = continued("append", cache, new)
    return np.concatenate([cache, new], axis=-2)


def write(cache: npt.ArrayLike, new: npt.ArrayLike, lengths: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """(cache, lengths) of a static cache [... n d] after the new positions [... t d] were put after the valid ones.

    `lengths` counts the valid positions, over the leading axes by broadcasting.

    >>> import numpy as np
    >>> import attention_ref as ar
    >>> k, lengths = ar.cache.write(np.zeros((2, 4, 1)), np.ones((2, 1, 1)), np.array([0, 2]))
    >>> k[..., 0], lengths
    (array([[1., 0., 0., 0.],
           [0., 0., 1., 0.]]), array([1, 3]))
    """
    new = entries("write", "new", new)
    cache = continued("write", cache, new).copy()
    lengths = counts("write", "lengths", lengths)
    leading, n, t = cache.shape[:-2], cache.shape[-2], new.shape[-2]
    if not fits(lengths.shape, leading):
        raise ShapeError(
            f"cache.write: lengths of shape {lengths.shape} do not broadcast to the leading axes {leading}"
        )
    end = lengths + t
    if end.size and end.max() > n:
        raise ShapeError(f"cache.write: {end.max()} positions do not fit a cache of {n}")
    index = np.broadcast_to(lengths[..., None], (*leading, 1)) + np.arange(t)
    np.put_along_axis(cache, index[..., None], new, axis=-2)
    return cache, end


def gather(pages: npt.ArrayLike, table: npt.ArrayLike) -> np.ndarray:
    """The contiguous keys or values [b h n·page d] of a paged cache [p h page d] by a block table [b n].

    The whole batch shares the pool of pages; the table says which pages make up each sequence, in order, with -1 after
    the last. Give `k_lengths` to attention, so that nobody attends to what lies after a sequence.

    >>> import numpy as np
    >>> import attention_ref as ar
    >>> pages = np.arange(3.0).reshape(3, 1, 1, 1) * np.ones((2, 1))  # 3 pages of 2 positions, one head, width 1
    >>> ar.cache.gather(pages, [[2, 0], [1, -1]])[:, 0, :2, 0]
    array([[2., 2.],
           [1., 1.]])
    """
    pages, table = entries("gather", "pages", pages), counts("gather", "table", table, low=-1)
    if pages.ndim != 4 or table.ndim != 2:
        raise ShapeError(f"cache.gather: pages is [p h page d] and table [b n]; got {pages.shape} and {table.shape}")
    if table.size and table.max() >= len(pages):
        raise OptionError(f"cache.gather: the table names page {table.max()}; there are {len(pages)}")
    if not len(pages):
        raise ShapeError("cache.gather: there is no page")
    joined = np.moveaxis(pages[table], 2, 1)
    batch, heads, n, page, d = joined.shape
    return joined.reshape(batch, heads, n * page, d)


def merge(parts: Iterable[tuple[npt.ArrayLike, npt.ArrayLike]]) -> tuple[np.ndarray, np.ndarray]:
    """(o, lse) of attention over all keys, from the (o, lse) of attention over each part of them.

    `ar.ops["layer.merge"]` is the same with a backward.

    >>> import numpy as np
    >>> import attention_ref as ar
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 6, 4))
    >>> whole = ar.attention(q, k, v)
    >>> parts = [ar.attention(q, k[keys], v[keys]) for keys in (slice(0, 2), slice(2, 6))]
    >>> o, lse = ar.cache.merge((part.o, part.lse) for part in parts)
    >>> np.allclose(o, whole.o), np.allclose(lse, whole.lse)
    (True, True)
    """
    o, lse = (np.stack([as_array("cache.merge", "a part", x) for x in xs], axis) for xs, axis in split(parts))
    return merging.forward(o, lse)[0]


def split(parts: Iterable[Any]) -> Any:
    pairs = list(parts)
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise ShapeError("cache.merge takes a sequence of pairs (o, lse), at least one")
    return zip(zip(*pairs, strict=True), (-3, -2), strict=True)


def entries(function: str, name: str, value: Any) -> np.ndarray:
    array = as_array(f"cache.{function}", name, value)
    if array.dtype.kind != "f":
        raise OptionError(f"cache.{function}: {name} must be floating-point; got dtype {array.dtype}")
    if array.ndim < 2:
        raise ShapeError(f"cache.{function}: {name} is [... j d]; got shape {array.shape}")
    return array


def continued(function: str, cache: Any, new: np.ndarray) -> np.ndarray:
    """The cache, if the new positions fit it: only their number may differ."""
    cache = entries(function, "cache", cache)
    if cache.dtype != new.dtype:
        raise OptionError(
            f"cache.{function}: the cache is {cache.dtype} and what is new {new.dtype}; convert one of them"
        )
    if cache.shape[:-2] != new.shape[:-2] or cache.shape[-1] != new.shape[-1]:
        raise ShapeError(
            f"cache.{function}: {new.shape} does not continue {cache.shape}; only the positions may differ"
        )
    return cache


def counts(function: str, name: str, values: Any, low: int = 0) -> np.ndarray:
    array = as_array(f"cache.{function}", name, values)
    if array.dtype.kind not in "iu" or (array.size and array.min() < low):
        least = f", least {array.min()}" if array.dtype.kind in "iu" and array.size else ""
        raise OptionError(f"cache.{function}: {name} must hold integers from {low}; got dtype {array.dtype}{least}")
    return array
