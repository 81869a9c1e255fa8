"""Lengths: how many queries and keys are real; the rest is padding."""

from typing import Any

import numpy as np
import numpy.typing as npt

from attention_ref.masks.band import causal
from attention_ref.masks.positions import counts, whole
from attention_ref.masks.predicate import Mask, joined, verdict
from attention_ref.op.arrays import at_lead


class Lengths(Mask):
    """i < q_lengths and j < k_lengths, counts over the leading axes; None = all are real."""

    def __init__(self, q_lengths: Any = None, k_lengths: Any = None, name: str = "k_lengths"):
        self.q_lengths = None if q_lengths is None else whole("q_lengths", q_lengths, "counts")
        self.k_lengths = None if k_lengths is None else whole(name, k_lengths, "counts")
        self.name = name
        self.leading = joined(np.shape(x) for x in (self.q_lengths, self.k_lengths) if x is not None)

    def allows(self, i: np.ndarray, j: np.ndarray, p: np.ndarray) -> np.ndarray:
        return below(i, self.q_lengths) & below(j, self.k_lengths)

    def status(self, rows: slice, keys: slice, offset: Any = 0) -> str:
        q, k = self.q_lengths, self.k_lengths
        none = ~(reaches(rows.start + 1, q) & reaches(keys.start + 1, k))
        return verdict(rows, keys, none=none, every=reaches(rows.stop, q) & reaches(keys.stop, k))

    def at(self, lead: tuple[slice, ...]) -> Mask:
        q, k = (None if x is None else at_lead(x, lead) for x in (self.q_lengths, self.k_lengths))
        return Lengths(q, k, self.name)

    def check(self, queries: int, keys: int) -> None:
        if self.q_lengths is not None:
            counts("q_lengths", self.q_lengths, queries)
        if self.k_lengths is not None:
            counts(self.name, self.k_lengths, keys)

    def __repr__(self) -> str:
        return f"lengths({shown(self.q_lengths)}, {shown(self.k_lengths)})"


def lengths(q_lengths: npt.ArrayLike | None = None, k_lengths: npt.ArrayLike | None = None) -> Mask:
    """The first `q_lengths` queries and the first `k_lengths` keys; what is beyond neither attends nor is attended to.

    Counts over the leading axes by broadcasting: (batch, 1) for scores of shape (batch, head, i, j).

    >>> import attention_ref as ar
    >>> ar.masks.lengths(k_lengths=[1, 3]).dense(1, 3).astype(int)
    array([[[1, 0, 0]],
           [[1, 1, 1]]])
    """
    return Lengths(q_lengths, k_lengths)


def prefix(n: npt.ArrayLike) -> Mask:
    """Prefix language model: the first n keys are open to every query, the others causally.

    >>> import attention_ref as ar
    >>> ar.masks.prefix(2).dense(3, 3).astype(int)
    array([[1, 1, 0],
           [1, 1, 0],
           [1, 1, 1]])
    """
    return causal() | Lengths(k_lengths=n, name="prefix")


def below(index: np.ndarray, count: np.ndarray | None) -> np.ndarray:
    return index >= 0 if count is None else index < count[..., None, None]


def reaches(n: int, count: np.ndarray | None) -> Any:
    """Are at least n real? At each of the leading axes."""
    return np.True_ if count is None else count >= n


def shown(count: np.ndarray | None) -> Any:
    return None if count is None else count.tolist()
