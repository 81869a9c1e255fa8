"""The options of attention that are masks, as one mask."""

from functools import reduce
from operator import and_

from attention_ref.errors import OptionError
from attention_ref.mask import band
from attention_ref.mask.packing import segments
from attention_ref.mask.predicate import as_mask
from attention_ref.mask.valid import lengths


def combined(allowed=None, causal=False, window=None, q_lengths=None, k_lengths=None, q_segments=None, k_segments=None):
    """What all the options that were given allow; None if none was."""
    parts = []
    if allowed is not None:
        parts.append(as_mask(allowed))
    if causal not in (True, False):
        raise OptionError(f"causal must be True or False; got {causal!r}")
    if causal:
        parts.append(band.causal())
    if window is not None:
        parts.append(band.window(*pair(window)))
    if q_lengths is not None or k_lengths is not None:
        parts.append(lengths(q_lengths, k_lengths))
    if q_segments is not None:
        parts.append(segments(q_segments, k_segments))
    elif k_segments is not None:
        raise OptionError(
            "k_segments was given without q_segments; give both, or q_segments alone if they are the same"
        )
    return reduce(and_, parts) if parts else None


def pair(window):
    if not isinstance(window, (tuple, list)) or len(window) != 2:
        raise OptionError(f"window must be the pair (left, right), None = unlimited; got {window!r}")
    return window
