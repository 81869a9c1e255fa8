"""Causal masks and windows: a band around the diagonal on which the queries sit."""

from typing import Any

import numpy as np

from attention_ref.errors import OptionError
from attention_ref.masks.predicate import Mask, verdict


class Band(Mask):
    """p - left <= j <= p + right, both inclusive, None = unlimited."""

    positional = True

    def __init__(self, left: int | None, right: int | None):
        self.left, self.right = left, right

    def allows(self, i: np.ndarray, j: np.ndarray, p: np.ndarray) -> np.ndarray:
        if self.left is None and self.right is None:
            return np.ones(np.broadcast_shapes(j.shape, p.shape), bool)
        if self.right is None:
            return j >= p - self.left
        ahead = j <= p + self.right
        return ahead if self.left is None else ahead & (j >= p - self.left)

    def status(self, rows: slice, keys: slice, offset: Any = 0) -> str:
        low, high = span(rows, keys, offset)
        left = np.inf if self.left is None else self.left
        right = np.inf if self.right is None else self.right
        return verdict(rows, keys, none=(high < -left) | (low > right), every=(low >= -left) & (high <= right))

    def status_changes(self, rows: slice, offset: Any = 0) -> list[int] | None:
        if np.ndim(offset):
            return None
        sides = ([] if self.left is None else [-self.left]) + ([] if self.right is None else [self.right + 1])
        return [end + offset + side for end in (rows.start, rows.stop - 1) for side in sides]

    def __repr__(self) -> str:
        return "causal()" if (self.left, self.right) == (None, 0) else f"window({self.left}, {self.right})"


def causal() -> Mask:
    """The keys up to the query's own position: j <= p.

    >>> import attention_ref as ar
    >>> ar.masks.causal().dense(2, 3, align="bottom_right").astype(int)
    array([[1, 1, 0],
           [1, 1, 1]])
    """
    return Band(None, 0)


def window(left: int | None = None, right: int | None = None) -> Mask:
    """The keys from `left` before the query's position to `right` after it, itself included; None is unlimited.

    >>> import attention_ref as ar
    >>> ar.masks.window(1, 0).dense(3, 3).astype(int)
    array([[1, 0, 0],
           [1, 1, 0],
           [0, 1, 1]])
    """
    return Band(reach("left", left), reach("right", right))


def reach(side: str, value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise OptionError(f"window: {side} must be None or how many keys, 0 or more; got {value!r}")
    return int(value)


def span(rows: slice, keys: slice, offset: Any) -> tuple[Any, Any]:
    """The least and the greatest j - p in a block, at each of the leading axes; every integer between occurs."""
    return keys.start - (rows.stop - 1) - offset, (keys.stop - 1) - rows.start - offset
