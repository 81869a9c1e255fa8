"""Where one call's queries and keys stand: the offset, what is allowed, and what else depends on positions."""

from functools import cached_property

import numpy as np

from attention_ref import masks
from attention_ref.adjust.relative import t5_bucket
from attention_ref.errors import OptionError
from attention_ref.masks.positions import between, resolve_offset
from attention_ref.op.arrays import at_lead
from attention_ref.pipeline.options import pair

FILL = {"nan": lambda keys: np.nan, "uniform": lambda keys: 1 / max(keys, 1)}


class Place:
    """The positions of one call, from its options."""

    def __init__(self, queries, keys, given, pairwise=True):
        self.queries, self.keys, self.given = queries, keys, given
        self.rows, self.columns, self.every_key = slice(0, queries), slice(0, keys), keys
        self.mask = mask_of(given)
        used = positional_options(given, self.mask)
        if used and not pairwise:
            raise OptionError(f"{used[0]} relates query and key positions; this rule's keys stand beside its queries")
        lengths = given.get("q_lengths"), given.get("k_lengths")
        self.offset = resolve_offset(given.get("align"), queries, keys, *lengths, needed=bool(used))
        if self.mask is not None:
            self.mask.check(queries, keys)

    def copied(self):
        """A copy to change. Made once per tile, for which copy.copy is too slow."""
        other = object.__new__(Place)
        other.__dict__ |= self.__dict__
        # what was found of the old positions is not true of the new ones
        other.__dict__.pop("allowed", None)
        other.__dict__.pop("relative", None)
        return other

    def at(self, lead):
        """The same place at a part of the leading axes, given as slices."""
        part = self.copied()
        part.mask = None if self.mask is None else self.mask.at(lead)
        part.offset = self.offset if np.ndim(self.offset) == 0 else at_lead(self.offset, lead)
        return part

    def chosen(self, rows=None, columns=None):
        """The same place with only these queries, or only these keys, by their indices."""
        part = self.copied()
        if rows is not None:
            part.rows, part.queries = rows, len(rows)
        if columns is not None:
            part.columns, part.keys = columns, len(columns)
        return part

    def tile(self, rows, columns, given, everything=False):
        """A tile of this place, with the options that were cut for it; `everything` says that no mask reaches it."""
        part = self.copied()
        part.rows, part.columns, part.given = within(self.rows, rows), within(self.columns, columns), given
        part.mask = None if everything else self.mask
        return part

    def status(self, rows, columns):
        """What the mask says of a tile: "none", "some" or "all"."""
        if self.mask is None:
            return masks.ALL
        return self.mask.status(spanned(self.rows, rows), spanned(self.columns, columns), self.offset)

    def status_changes(self, rows):
        """The keys before which the status of these queries may change; None where that is not known."""
        plain = isinstance(self.rows, slice) and isinstance(self.columns, slice)
        return self.mask.status_changes(rows, self.offset) if plain and self.mask is not None else None

    @cached_property
    def allowed(self):
        """Where every mask allows the pair, as a dense boolean array; a bias of -inf forbids too. None: no mask."""
        allowed = None
        if self.mask is not None:
            allowed = self.mask.block(indices(self.rows), indices(self.columns), self.offset)
        if "bias" in self.given:
            banned = np.isneginf(self.given["bias"].real)
            if banned.any():
                allowed = ~banned if allowed is None else allowed & ~banned
        return allowed

    @cached_property
    def relative(self):
        return between(indices(self.rows), indices(self.columns), self.offset)

    @property
    def distance(self):
        return np.abs(self.relative)

    def bucket(self, n):
        given = self.given
        two_sided = given.get("relative_bidirectional", True)
        return t5_bucket(self.relative, n, given.get("relative_max_distance", 128), two_sided)


def empty_rows(given, allowed, shape):
    """The rows of scores of this shape that `empty_row` fills, because nothing is allowed in them: [... i], or None.

    Raises for empty_row="raise", if there is such a row.
    """
    kind = given.get("empty_row", "zero")
    if kind == "zero":
        return None
    empty = ~np.broadcast_to(True if allowed is None else allowed, shape).any(axis=-1)
    if kind == "raise":
        refuse_empty(empty)
    return empty if kind in FILL and allowed is not None else None


def refuse_empty(empty):
    """Raise for the first row in which nothing is allowed, if there is one."""
    if not empty.any():
        return
    *leading, row = (int(n) for n in np.argwhere(empty)[0])
    where = f" of {tuple(leading)}" if leading else ""
    raise OptionError(f"query {row}{where} may attend to no key")


def indices(span):
    return np.arange(span.start, span.stop) if isinstance(span, slice) else span


def within(whole, part):
    """`whole[part]`, for a `whole` that is an index array; where it is a slice from 0, the part itself."""
    return part if isinstance(whole, slice) else whole[part]


def spanned(whole, part):
    """The smallest slice that contains within(whole, part)."""
    if isinstance(whole, slice):
        return part
    positions = whole[part]
    return slice(int(positions.min()), int(positions.max()) + 1) if len(positions) else slice(0, 0)


def mask_of(given):
    """All masks of a call as one, or None."""
    parts = []
    if "mask" in given:
        parts.append(given["mask"])
    if "allowed" in given:
        parts.append(masks.dense(given["allowed"]))
    if given.get("causal"):
        parts.append(masks.causal())
    if "window" in given:
        parts.append(masks.window(*pair("window", given["window"])))
    if "q_lengths" in given or "k_lengths" in given:
        parts.append(masks.lengths(given.get("q_lengths"), given.get("k_lengths")))
    if "q_segments" in given or "k_segments" in given:
        if not ("q_segments" in given and "k_segments" in given):
            raise OptionError("q_segments and k_segments belong together; only one was given")
        parts.append(masks.segments(given["q_segments"], given["k_segments"]))
    whole = None
    for part in parts:
        whole = part if whole is None else whole & part
    return whole


def positional_options(given, mask):
    """The options of this call that depend on where a query sits among the keys."""
    used = [f"{name}=" for name in ("causal", "window", "alibi_slopes", "relative_table", "align") if name in given]
    return used or (["the mask"] if mask is not None and mask.positional else [])
