"""Where a query sits among the keys: one offset for everything positional.

Query i sits at key position i + offset. Causal masks, windows, ALiBi and relative biases all read the same offset.
"""

import numpy as np

from attention_ref.errors import OptionError
from attention_ref.op.arrays import as_array
from attention_ref.op.suggest import did_you_mean

ALIGNMENTS = ("top_left", "bottom_right")
CHOICES = "'top_left' (offset 0), 'bottom_right' (keys - queries), or the offset, an integer or an integer array"


def resolve_offset(align, queries, keys, q_lengths=None, k_lengths=None, needed=True):
    """The offset, an integer or an integer array over the leading axes; never guessed.

    `queries` and `keys` are how many there are; where lengths are given, the real ones count. `needed` says whether
    anything positional is used: only then must `align` be given, if queries and keys are not equally many.
    """
    difference = real("k_lengths", k_lengths, keys) - real("q_lengths", q_lengths, queries)
    if align is None:
        if needed and np.any(difference != 0):
            lengths = ", by their lengths" * (queries == keys)
            raise OptionError(
                f"align is missing: something positional is used and queries ({queries}) and keys ({keys}) are not "
                f"equally many{lengths}, so align= must be {CHOICES}"
            )
        return 0
    if isinstance(align, str):
        if align not in ALIGNMENTS:
            raise OptionError(f"there is no alignment {align!r}{did_you_mean(align, ALIGNMENTS)}; align= is {CHOICES}")
        return 0 if align == "top_left" else plain(difference)
    return plain(whole("align", align, CHOICES))


def relative(queries, keys, offset=0):
    """Key position minus query position, j - (i + offset), as integers [... i j]."""
    return between(np.arange(queries), np.arange(keys), offset)


def between(rows, columns, offset=0):
    """The same for the queries at `rows` and the keys at `columns` only."""
    return columns - query_positions(rows[:, None], offset)


def query_positions(i, offset):
    """i + offset, with the offset's leading axes in front of the axes of i, which are (i, 1)."""
    return i + np.asarray(offset)[..., None, None]


def real(name, lengths, size):
    return size if lengths is None else counts(name, lengths, size)


def counts(name, lengths, size):
    """Lengths as integers from 0 to the size of the axis they count along."""
    lengths = whole(name, lengths, "counts")
    wrong = lengths[(lengths < 0) | (lengths > size)]
    if wrong.size:
        raise OptionError(f"{name} holds {wrong[0]}; a count along an axis of {size} must be in 0..{size}")
    return lengths


def whole(name, value, wanted="integers"):
    """An int64 array, or an error that says what was wanted."""
    array = as_array("positions", name, value)
    if array.dtype.kind not in "iu":
        raise OptionError(f"{name} must be {wanted}; got dtype {array.dtype}")
    return array.astype(np.int64)


def plain(offset):
    return int(offset) if np.ndim(offset) == 0 else offset
