"""How a problem is cut: the size of a tile, the tasks that can run side by side, and the keys that a task looks at."""

from dataclasses import dataclass
from itertools import pairwise, product
from math import ceil, gcd, prod

import numpy as np

from attention_ref import masks
from attention_ref.errors import OptionError

SIDE = 512
TILE_SCORES = SIDE**2
HEADS, HEADS_KEYS = 8, 2**15
KEPT_BYTES, KEPT_SHARE = 2**27, 1 / 8
TASKS, FEW, QUERIES = 16, 4, 512


@dataclass(frozen=True)
class Tile:
    """The most queries, keys and neighbors on the last leading axis that one tile holds, and the least keys.

    `worth` is how many scores a task has at least, where its queries are enough.
    """

    rows: int
    keys: int
    heads: int
    grain: int
    worth: int


@dataclass(frozen=True)
class Task:
    """Some queries, at some of the leading axes, against all the keys."""

    lead: tuple
    rows: slice
    number: int = 0
    keeps: bool = False

    def __str__(self):
        leading = ", ".join(f"{s.start}:{s.stop}" for s in self.lead)
        return f"queries {self.rows.start}:{self.rows.stop}" + f" at [{leading}]" * bool(self.lead)


def sizes(tile):
    """(queries, keys) of a tile, from tile=; None where they are to be chosen."""
    if isinstance(tile, str) and tile == "auto":
        return None
    pair = (tile, tile) if isinstance(tile, (int, np.integer)) else tile
    whole = isinstance(pair, (tuple, list)) and len(pair) == 2 and all(isinstance(n, (int, np.integer)) for n in pair)
    if not whole or isinstance(tile, bool) or min(pair) < 1:
        raise OptionError(f"tile is 'auto', a number of positions, (queries, keys) or None; got {tile!r}")
    return tuple(int(n) for n in pair)


def choose(tile, place, hidden, lead, shared):
    """The tile: as many numbers as the caches like, `hidden` for each score.

    Where a band is cut out it has few queries, so that little of it lies outside, and half as many numbers again.
    """
    room, queries, keys = max(TILE_SCORES // hidden, 64), place.queries, place.keys
    if sizes(tile):
        (rows, columns), worth = sizes(tile), 1
    else:
        positional = place.mask is not None and place.mask.positional
        together = neighbors(min(HEADS, HEADS_KEYS // max(keys, 1)), lead, shared) if positional else 1
        rows = max(32, min(SIDE // 2, queries // 4, power(2 * SIDE // together))) if positional else SIDE
        rows = min(rows, max(8, int(room**0.5)))
        worth, room = 2 * room, room + room // 2 * positional
        columns = max(min(room // rows // together, SIDE, keys // 2), min(room // rows, rows), 1)
    rows, columns = max(min(rows, queries), 1), max(min(columns, keys), 1)
    heads = max(room // (rows * columns), 1)
    return Tile(rows, columns, neighbors(heads, lead, shared), min(columns, max(rows // 2, 16)), worth)


def power(n):
    """The largest power of 2 that is not above n."""
    return 1 << (n.bit_length() - 1)


def neighbors(most, lead, shared):
    """How many of the last leading axis go together: a divisor of every group that shares a key head."""
    if not lead:
        return 1
    together = gcd(*shared) if shared else lead[-1]
    return max((n for n in range(1, min(most, together) + 1) if together % n == 0), default=1)


def tasks(leading, queries, keys, tile, kept):
    """The tasks, in the order in which their results are added up: the same whoever computes them.

    About TASKS, or as many as have QUERIES each, if these are at least FEW: a task that has some of the queries has
    sums of its own for the gradients of the keys, which take as long as a part of those queries.
    The first tasks keep their exponentials for backward, `kept` bytes for each query, as far as they fit; none where
    so few fit that the time is not worth the memory.
    """
    if not prod(leading) * queries:
        return []
    *outer, last = leading or (None,)
    places = [[slice(n, n + 1) for n in range(size)] for size in outer]
    if last is not None:
        places.append([slice(n, min(n + tile.heads, last)) for n in range(0, last, tile.heads)])
    cells = list(product(*places))
    blocks = ceil(queries / tile.rows)
    least = min(ceil(tile.worth / (tile.rows * max(keys, 1) * tile.heads)), blocks)
    alone = min(QUERIES // tile.rows, blocks * len(cells) // FEW)
    chunk = max(1, blocks * len(cells) // TASKS, alone, least) * tile.rows
    worthwhile = 0 < kept * prod(leading) * queries * KEPT_SHARE <= KEPT_BYTES
    fit = KEPT_BYTES // (kept * min(chunk, queries) * tile.heads) if worthwhile else 0
    parts = [slice(n, min(n + chunk, queries)) for n in reversed(range(0, queries, chunk))]
    return [Task(cell, rows, n, keeps=n < fit) for n, (rows, cell) in enumerate(product(parts, cells))]


def key_tiles(place, rows, tile):
    """[(keys, whether all of them are allowed)]: slices that cover every key that a query of `rows` may attend to."""
    changes, found = place.status_changes(rows), []
    for keys in [slice(0, place.keys)] if changes is None else cut_at(changes, place.keys, tile.grain):
        bisect(place, rows, keys, tile.grain if changes is None else place.keys, found)
    out = []
    for start, stop, everything in joined(found):
        out += [(slice(n, min(n + tile.keys, stop)), everything) for n in range(start, stop, tile.keys)]
    return out


def cut_at(places, keys, grain):
    """The slices into which the keys fall if they are cut at the multiples of the grain around these places."""
    cuts = {0, keys} | {end for n in places for end in (n // grain * grain, -(-n // grain) * grain)}
    inside = sorted(end for end in cuts if 0 <= end <= keys)
    return [slice(*pair) for pair in pairwise(inside)]


def bisect(place, rows, keys, grain, found):
    status = place.status(rows, keys)
    if status == masks.SOME and keys.stop - keys.start > grain:
        middle = keys.start + max(grain, 1 << ((keys.stop - keys.start - 1).bit_length() - 1))
        bisect(place, rows, slice(keys.start, middle), grain, found)
        bisect(place, rows, slice(middle, keys.stop), grain, found)
    elif status != masks.NONE:
        found.append((keys.start, keys.stop, status == masks.ALL))


def joined(spans):
    """Neighbors of one kind as one."""
    out = []
    for start, stop, kind in spans:
        if out and out[-1][1] == start and out[-1][2] == kind:
            start = out.pop()[0]
        out.append((start, stop, kind))
    return out
