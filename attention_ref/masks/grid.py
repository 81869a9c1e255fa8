"""Blocks and dilation: masks that repeat along the keys."""

from typing import Any

import numpy as np

from attention_ref.errors import OptionError
from attention_ref.masks.band import span
from attention_ref.masks.predicate import Mask, verdict


class Blocks(Mask):
    """p // size == j // size: key positions in blocks, a query sees the block in which it sits."""

    positional = True

    def __init__(self, size: int):
        self.size = size

    def allows(self, i: np.ndarray, j: np.ndarray, p: np.ndarray) -> np.ndarray:
        return p // self.size == j // self.size

    def status(self, rows: slice, keys: slice, offset: Any = 0) -> str:
        offset = np.asarray(offset)
        q_first, q_last = (rows.start + offset) // self.size, (rows.stop - 1 + offset) // self.size
        k_first, k_last = keys.start // self.size, (keys.stop - 1) // self.size
        one = (q_first == q_last) & (k_first == k_last) & (q_first == k_first)
        return verdict(rows, keys, none=(q_last < k_first) | (k_last < q_first), every=one)

    def __repr__(self) -> str:
        return f"blocks({self.size})"


class Dilated(Mask):
    """(p - j) % step == 0: every step-th key, counted from the query's position."""

    positional = True

    def __init__(self, step: int):
        self.step = step

    def allows(self, i: np.ndarray, j: np.ndarray, p: np.ndarray) -> np.ndarray:
        return (p - j) % self.step == 0

    def status(self, rows: slice, keys: slice, offset: Any = 0) -> str:
        low, high = span(rows, keys, offset)
        hits = high // self.step - (low - 1) // self.step
        return verdict(rows, keys, none=hits == 0, every=hits == high - low + 1)

    def __repr__(self) -> str:
        return f"dilated({self.step})"


def blocks(size: int) -> Mask:
    """Block-diagonal: the keys of the block of `size` positions in which the query sits.

    >>> import attention_ref as ar
    >>> ar.masks.blocks(2).dense(3, 3).astype(int)
    array([[1, 1, 0],
           [1, 1, 0],
           [0, 0, 1]])
    """
    return Blocks(positive("blocks", "size", size))


def dilated(step: int) -> Mask:
    """Every `step`-th key before and after the query's position, which is one of them.

    >>> import attention_ref as ar
    >>> (ar.masks.dilated(2) & ar.masks.causal()).dense(4, 4).astype(int)
    array([[1, 0, 0, 0],
           [0, 1, 0, 0],
           [1, 0, 1, 0],
           [0, 1, 0, 1]])
    """
    return Dilated(positive("dilated", "step", step))


def positive(kind: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise OptionError(f"{kind}: {name} must be an integer, 1 or more; got {value!r}")
    return int(value)
