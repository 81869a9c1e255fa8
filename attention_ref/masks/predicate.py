"""A mask: a predicate on query and key positions, True = may attend.

Masks compose with `& | ~`, broadcast over the leading axes, and are evaluated on as many positions as are asked for:
`block` gives the part of the matrix that a tile needs, `status` tells whether a tile needs anything at all.

A mask knows no alignment. Everything positional in one attention shares one offset (`positions.resolve_offset`), which
is given when the mask is evaluated; `positional` says whether the mask depends on it. `leading` are a mask's own axes
before those of queries and keys.
"""

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from attention_ref.errors import OptionError, ShapeError
from attention_ref.masks.positions import query_positions, resolve_offset
from attention_ref.op.arrays import as_array, at_lead

NONE, SOME, ALL = "none", "some", "all"
MaskLike: TypeAlias = "Mask | npt.ArrayLike"


class Mask:
    """A predicate on query and key positions, True = may attend; masks compose with `&`, `|` and `~`.

    `ar.attention(allowed=...)` takes one. A kind of mask of your own is a subclass that defines `allows`.

    >>> import attention_ref as ar
    >>> mask = ar.masks.causal() & ~ar.masks.blocks(2)
    >>> mask
    (causal() & ~blocks(2))
    >>> mask.dense(4, 4).astype(int)
    array([[0, 0, 0, 0],
           [0, 0, 0, 0],
           [1, 1, 0, 0],
           [1, 1, 0, 0]])
    """

    positional = False
    leading: tuple[int, ...] = ()
    __array_ufunc__ = None

    def allows(self, i: np.ndarray, j: np.ndarray, p: np.ndarray) -> np.ndarray:
        """May query i, which sits at key position p, attend to key j?

        i is (rows, 1), j is (1, keys), p is [..., rows, 1].
        """
        raise NotImplementedError

    def status(self, rows: slice, keys: slice, offset: Any = 0) -> str:
        """Is "none" or "all" of a block allowed, or "some"? Where that is not cheap to know, "some".

        `rows` and `keys` are slices, start to stop.
        """
        return SOME

    def status_changes(self, rows: slice, offset: Any = 0) -> list[int] | None:
        """The keys before which the status of a block of queries may change; None where that is not known."""
        return None

    def check(self, queries: int, keys: int) -> None:
        """Refuse sizes that this mask was not made for."""

    def at(self, lead: tuple[slice, ...]) -> "Mask":
        """The same mask at a part of the leading axes, given as slices."""
        return At(self, lead) if self.leading else self

    def block(self, rows: npt.ArrayLike, keys: npt.ArrayLike, offset: Any = 0) -> np.ndarray:
        """The boolean array [... rows keys] at the query indices `rows` and the key indices `keys`."""
        joined([self.leading, np.shape(offset)])
        i, j = np.asarray(rows)[:, None], np.asarray(keys)[None, :]
        allowed = np.asarray(self.allows(i, j, query_positions(i, offset)))
        return np.broadcast_to(allowed, (*allowed.shape[:-2], i.size, j.size))

    def dense(
        self,
        queries: int,
        keys: int,
        align: Any = None,
        q_lengths: npt.ArrayLike | None = None,
        k_lengths: npt.ArrayLike | None = None,
    ) -> np.ndarray:
        """The whole boolean array [... i j]; `align` and the lengths give the offset, nothing else."""
        self.check(queries, keys)
        offset = resolve_offset(align, queries, keys, q_lengths, k_lengths, self.positional)
        return self.block(np.arange(queries), np.arange(keys), offset)

    def __and__(self, other: MaskLike) -> "Mask":
        return Both(self, as_mask(other))

    def __or__(self, other: MaskLike) -> "Mask":
        return Either(self, as_mask(other))

    def __rand__(self, other: MaskLike) -> "Mask":
        return as_mask(other) & self

    def __ror__(self, other: MaskLike) -> "Mask":
        return as_mask(other) | self

    def __invert__(self) -> "Mask":
        return Not(self)


class At(Mask):
    """A mask at a part of its leading axes."""

    def __init__(self, whole: Mask, lead: tuple[slice, ...]):
        self.whole, self.lead, self.positional = whole, lead, whole.positional
        self.leading = at_lead(np.empty(whole.leading, bool), lead).shape

    def allows(self, i: np.ndarray, j: np.ndarray, p: np.ndarray) -> np.ndarray:
        return at_lead(np.asarray(self.whole.allows(i, j, p)), self.lead, trailing=2)

    def __repr__(self) -> str:
        return f"{self.whole!r} at {self.lead}"


class Composed(Mask):
    """A mask made of others."""

    def __init__(self, *parts: Mask):
        self.parts = parts
        self.positional = any(part.positional for part in parts)
        self.leading = joined(part.leading for part in parts)

    def status_changes(self, rows: slice, offset: Any = 0) -> list[int] | None:
        changes: list[int] = []
        for part in self.parts:
            of_part = part.status_changes(rows, offset)
            if of_part is None:
                return None
            changes += of_part
        return changes

    def check(self, queries: int, keys: int) -> None:
        for part in self.parts:
            part.check(queries, keys)

    def at(self, lead: tuple[slice, ...]) -> "Mask":
        return type(self)(*(part.at(lead) for part in self.parts))


class Both(Composed):
    """Allowed by one mask and by the other."""

    def allows(self, i: np.ndarray, j: np.ndarray, p: np.ndarray) -> np.ndarray:
        a, b = self.parts
        return a.allows(i, j, p) & b.allows(i, j, p)

    def status(self, rows: slice, keys: slice, offset: Any = 0) -> str:
        statuses = {part.status(rows, keys, offset) for part in self.parts}
        return next(status for status in (NONE, SOME, ALL) if status in statuses)

    def __repr__(self) -> str:
        return "({!r} & {!r})".format(*self.parts)


class Either(Composed):
    """Allowed by one mask or by the other."""

    def allows(self, i: np.ndarray, j: np.ndarray, p: np.ndarray) -> np.ndarray:
        a, b = self.parts
        return a.allows(i, j, p) | b.allows(i, j, p)

    def status(self, rows: slice, keys: slice, offset: Any = 0) -> str:
        statuses = {part.status(rows, keys, offset) for part in self.parts}
        return next(status for status in (ALL, SOME, NONE) if status in statuses)

    def __repr__(self) -> str:
        return "({!r} | {!r})".format(*self.parts)


class Not(Composed):
    """Allowed where the mask does not allow."""

    def allows(self, i: np.ndarray, j: np.ndarray, p: np.ndarray) -> np.ndarray:
        return ~self.parts[0].allows(i, j, p)

    def status(self, rows: slice, keys: slice, offset: Any = 0) -> str:
        if empty(rows, keys):
            return NONE
        return {NONE: ALL, SOME: SOME, ALL: NONE}[self.parts[0].status(rows, keys, offset)]

    def __repr__(self) -> str:
        return f"~{self.parts[0]!r}"


class Dense(Mask):
    """A boolean array [... i j]; an axis of length 1 broadcasts."""

    def __init__(self, allowed: npt.ArrayLike):
        self.allowed = np.atleast_2d(booleans(allowed))
        self.leading = self.allowed.shape[:-2]

    def allows(self, i: np.ndarray, j: np.ndarray, p: np.ndarray) -> np.ndarray:
        queries, keys = self.allowed.shape[-2:]
        return self.allowed[..., i if queries != 1 else 0 * i, j if keys != 1 else 0 * j]

    def status(self, rows: slice, keys: slice, offset: Any = 0) -> str:
        queries, columns = self.allowed.shape[-2:]
        part = self.allowed[..., rows if queries != 1 else slice(None), keys if columns != 1 else slice(None)]
        return verdict(rows, keys, none=~part, every=part)

    def at(self, lead: tuple[slice, ...]) -> "Mask":
        return Dense(at_lead(self.allowed, lead, trailing=2))

    def check(self, queries: int, keys: int) -> None:
        shape = self.allowed.shape
        if shape[-2] not in (1, queries) or shape[-1] not in (1, keys):
            raise ShapeError(f"allowed of shape {shape} does not broadcast to {queries} queries and {keys} keys")

    def __repr__(self) -> str:
        return f"dense(<{'x'.join(map(str, self.allowed.shape))}>)"


def dense(allowed: npt.ArrayLike) -> "Mask":
    """The keys that a boolean array [... i j] allows, as a mask that composes.

    >>> import attention_ref as ar
    >>> (ar.masks.dense([[True, False, True]]) & ar.masks.causal()).dense(3, 3).astype(int)
    array([[1, 0, 0],
           [1, 0, 0],
           [1, 0, 1]])
    """
    return Dense(allowed)


def as_mask(value: MaskLike) -> "Mask":
    """A mask as it is; a boolean array as a mask."""
    return value if isinstance(value, Mask) else Dense(value)


def booleans(value: Any) -> np.ndarray:
    array = as_array("masks", "allowed", value)
    if array.dtype != bool:
        raise OptionError(
            f"a mask must be boolean, True = may attend; got dtype {array.dtype}, and additive masks go in as bias="
        )
    return array


def joined(leads: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """The leading axes of several masks, or of a mask and the offset, together."""
    leads = list(leads)
    try:
        return np.broadcast_shapes(*leads)
    except ValueError:
        shown = " and ".join(map(str, leads))
        raise ShapeError(
            f"the leading axes of masks and offset do not broadcast: {shown}; they must be equal or 1"
        ) from None


def verdict(rows: slice, keys: slice, none: Any, every: Any) -> str:
    """ "none", "all" or "some", from whether it is so at each of the leading axes; an empty block allows nothing."""
    if empty(rows, keys) or everywhere(none):
        return NONE
    return ALL if everywhere(every) else SOME


def everywhere(found: Any) -> bool:
    return found if isinstance(found, bool) else bool(np.all(found))


def empty(rows: slice, keys: slice) -> bool:
    return rows.start >= rows.stop or keys.start >= keys.stop
