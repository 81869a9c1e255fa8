"""Segments: several sequences packed into one, none of which sees another."""

from typing import Any

import numpy as np
import numpy.typing as npt

from attention_ref.errors import OptionError, ShapeError
from attention_ref.masks.positions import whole
from attention_ref.masks.predicate import Mask, joined, verdict
from attention_ref.op.arrays import at_lead


class Segments(Mask):
    """The keys whose id is the query's; a negative id is padding, which neither attends nor is attended to."""

    def __init__(self, q_segments: npt.ArrayLike, k_segments: npt.ArrayLike):
        self.q_segments = whole("q_segments", q_segments, "integer ids")
        self.k_segments = whole("k_segments", k_segments, "integer ids")
        self.leading = joined((self.q_segments.shape[:-1], self.k_segments.shape[:-1]))

    def allows(self, i: np.ndarray, j: np.ndarray, p: np.ndarray) -> np.ndarray:
        q, k = self.q_segments[..., i], self.k_segments[..., j]
        return (q == k) & (q >= 0)

    def status(self, rows: slice, keys: slice, offset: Any = 0) -> str:
        """Exact where the ids of a block do not mix; ids out of order may make it "some" without need."""
        q, k = self.q_segments[..., rows], self.k_segments[..., keys]
        if not q.size or not k.size:
            return verdict(rows, keys, none=True, every=False)
        (q_low, q_high), (k_low, k_high) = ((x.min(axis=-1), x.max(axis=-1)) for x in (q, k))
        apart = (q_high < k_low) | (k_high < q_low) | (q_high < 0) | (k_high < 0)
        one = (q_low == q_high) & (k_low == k_high) & (q_low == k_low) & (q_low >= 0)
        return verdict(rows, keys, none=apart, every=one)

    def at(self, lead: tuple[slice, ...]) -> Mask:
        return Segments(at_lead(self.q_segments, lead, trailing=1), at_lead(self.k_segments, lead, trailing=1))

    def check(self, queries: int, keys: int) -> None:
        for name, ids, size in (("q_segments", self.q_segments, queries), ("k_segments", self.k_segments, keys)):
            if ids.ndim == 0 or ids.shape[-1] != size:
                raise ShapeError(f"{name} has shape {ids.shape}; its last axis must have one id for each of {size}")

    def __repr__(self) -> str:
        return f"segments(<{self.q_segments.shape}>, <{self.k_segments.shape}>)"


def segments(q_segments: npt.ArrayLike, k_segments: npt.ArrayLike | None = None) -> Mask:
    """The keys of the query's own segment, by integer ids [... i] and [... j]; without k_segments they are the same.

    A negative id is padding, which attends to nothing.

    >>> import attention_ref as ar
    >>> ar.masks.segments([7, 3, 7, -1]).dense(4, 4).astype(int)
    array([[1, 0, 1, 0],
           [0, 1, 0, 0],
           [1, 0, 1, 0],
           [0, 0, 0, 0]])
    """
    return Segments(q_segments, q_segments if k_segments is None else k_segments)


def documents(q_sizes: npt.ArrayLike, k_sizes: npt.ArrayLike | None = None) -> Mask:
    """Block-diagonal: documents of these sizes lie one after the other, none of which sees another.

    >>> import attention_ref as ar
    >>> ar.masks.documents([1, 2]).dense(3, 3).astype(int)
    array([[1, 0, 0],
           [0, 1, 1],
           [0, 1, 1]])
    """
    return segments(numbered(q_sizes), None if k_sizes is None else numbered(k_sizes))


def numbered(sizes: Any) -> np.ndarray:
    sizes = whole("documents", sizes, "sizes")
    if sizes.ndim != 1 or np.any(sizes < 0):
        raise OptionError(f"documents: the sizes must be one row of integers, 0 or more; got {sizes.tolist()}")
    return np.repeat(np.arange(sizes.size), sizes)
