"""The generator of the inputs: integers only, so that any language draws the same numbers.

A stream belongs to a name, "file/comment/argument". Its state is a 32-bit integer, at first the FNV-1a hash of the
name's UTF-8 bytes (1 if that is 0); a step is xorshift32, and a draw is one step and then r = state >> 8:

    x ^= x << 13;  x ^= x >> 17;  x ^= x << 5        (mod 2³²)

    float      (r mod 31 − 15) / 8      multiples of 1/8 from −15/8 to 15/8: exact in every format down to e4m3
    positive   (r mod 15 + 1) / 8
    bool       r mod 10 < 7
    integer    r mod n
"""

import numpy as np

MASK = 0xFFFFFFFF


def fnv1a(name):
    state = 0x811C9DC5
    for byte in name.encode():
        state = ((state ^ byte) * 0x01000193) & MASK
    return state or 1


def draws(name, count):
    """The first `count` draws r of a stream."""
    x, out = fnv1a(name), []
    for _ in range(count):
        x ^= (x << 13) & MASK
        x ^= x >> 17
        x ^= (x << 5) & MASK
        out.append(x >> 8)
    return out


def draw(name, shape, kind="float", n=2):
    r = np.array(draws(name, int(np.prod(shape))), np.int64).reshape(shape)
    if kind == "float":
        return (r % 31 - 15) / 8
    if kind == "positive":
        return (r % 15 + 1) / 8
    return r % 10 < 7 if kind == "bool" else r % n
