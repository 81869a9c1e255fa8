"""Memory that later calls use again: fresh from the system it takes longer to touch than to compute with.

Large pieces that wait for the next call may be taken back by the system when that is short of memory.
"""

import mmap
from contextlib import suppress
from math import prod

import numpy as np

LEAST, LARGE, MOST = 2**18, 2**22, 2**28
idle = {}


class Lent:
    """The memory under an array and its views; when the last of them is gone, it waits for the next array."""

    def __init__(self, memory):
        self.memory = memory
        self.__array_interface__ = np.frombuffer(memory, np.uint8).__array_interface__

    def __del__(self, idle=idle):
        size = len(self.memory)
        if size + sum(n * len(same) for n, same in list(idle.items())) > MOST:
            return
        if size >= LARGE:
            advise(self.memory, "MADV_FREE")
        idle.setdefault(size, []).append(self.memory)


def empty(shape, dtype):
    """np.empty, in memory that is used again."""
    size = int(prod(shape)) * np.dtype(dtype).itemsize
    if size < LEAST:
        return np.empty(shape, dtype)
    try:
        lent = Lent(found(1 << (size - 1).bit_length()))
    except OSError:
        release()
        return np.empty(shape, dtype)
    return np.asarray(lent)[:size].view(dtype).reshape(shape)


def zeros(shape, dtype):
    out = empty(shape, dtype)
    out.fill(0)
    return out


def found(size):
    """Memory of this size that waits, or else fresh."""
    try:
        return idle[size].pop()
    except (KeyError, IndexError):
        return fresh(size)


def fresh(size):
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    advise(memory, "MADV_HUGEPAGE")
    return memory


def advise(memory, kind):
    """Tell the system how this memory is used, where it can be told and listens."""
    with suppress(AttributeError, OSError):
        memory.madvise(getattr(mmap, kind))


def release():
    """Give back to the system what waits."""
    idle.clear()
