"""Memory that later calls use again: fresh from the system it takes longer to touch than to compute with.

No code of ours runs when an array dies, where an interrupt would be lost: its piece waits in `returned` until the next
array is asked for. All pieces together, those in use and those that wait, are at most MOST bytes; what exceeds that is
plain memory.
"""

from collections import deque
from contextlib import suppress
from math import prod
from weakref import ref

import numpy as np

LEAST, MOST = 2**18, 3 * 2**26
lent, returned, idle = {}, deque(), {}


class Owner:
    """Lives as long as an array on its piece, or a view of that."""

    def __init__(self, piece):
        self.piece, self.__array_interface__ = piece, piece.__array_interface__


class Ticket(ref):
    """Comes back with the piece of an owner that is gone."""

    piece: np.ndarray

    def __new__(cls, owner, back, piece):
        self = super().__new__(cls, owner, back)
        self.piece = piece
        return self

    def __init__(self, owner, back, piece):
        """Nothing is left to do; ref's own takes no piece."""


def empty(shape, dtype):
    """np.empty, in memory that is used again."""
    array, _ = borrowed(shape, dtype, np.empty)
    return array


def zeros(shape, dtype):
    array, fresh = borrowed(shape, dtype, np.zeros)
    if not fresh:
        array.fill(0)
    return array


def borrowed(shape, dtype, new):
    """(an array, whether its memory comes from `new` just now)"""
    size = int(prod(shape)) * np.dtype(dtype).itemsize
    piece, fresh = found(rounded(size), new) if LEAST <= size <= MOST else (None, True)
    if piece is None:
        return new(shape, dtype), True
    owner = Owner(piece)
    ticket = Ticket(owner, returned.append, piece)
    lent[id(ticket)] = ticket
    return np.asarray(owner)[:size].view(dtype).reshape(shape), fresh


def rounded(size):
    """The size of a piece: at most an eighth more, so that arrays of nearly one size share pieces."""
    grain = 1 << (size.bit_length() - 4)
    return -(-size // grain) * grain


def found(size, new):
    """(a piece that waits, or a new one where there is room or else None; whether it is new)"""
    take_back()
    piece = waiting(size)
    if piece is not None:
        return piece, False
    room = MOST - size - sum(ticket.piece.size for ticket in list(lent.values()))
    if room < 0:
        return None, True
    for other in list(idle):
        while sum(n * len(same) for n, same in list(idle.items())) > room and waiting(other) is not None:
            pass
    return new(size, np.uint8), True


def waiting(size):
    """A piece of this size that waits, no more from now on; or None."""
    try:
        return idle[size].pop()
    except (KeyError, IndexError):
        return None


def take_back():
    with suppress(IndexError):
        while True:
            ticket = returned.popleft()
            lent.pop(id(ticket), None)
            idle.setdefault(ticket.piece.size, []).append(ticket.piece)


def release():
    """Let go of all that waits."""
    take_back()
    idle.clear()
