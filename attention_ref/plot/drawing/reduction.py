"""A matrix made small enough to draw, its peaks kept, and what was seen on the way: states, sums, the largest value.

Each axis is cut into blocks of equal length. A block shows one number, by default its largest, so that a single
bright cell among thousands is still there. A block holding a NaN or a leak is shown as such, whatever else it holds.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from attention_ref.plot.drawing.states import DEAD, LEAK, MASKED, NAMES, NAN, SEEN, classify

REDUCTIONS = ("max", "min", "mean", "extreme")
WORDS = {"max": "largest", "min": "smallest", "mean": "mean", "extreme": "value farthest from 0"}


@dataclass(frozen=True)
class Grid:
    """The cells to draw: `values` and `states` by block, and facts about the whole matrix."""

    values: np.ndarray
    states: np.ndarray
    block: tuple[int, int]
    shape: tuple[int, int]
    how: str
    kind: str
    counts: dict
    sums: np.ndarray
    alive: np.ndarray
    peak: tuple[float, int, int] | None
    low: float

    @property
    def shown(self):
        """The values as a masked array: only what is a number is drawn in color."""
        return np.ma.masked_array(self.values, ~np.isin(self.states, (SEEN, LEAK)))

    @property
    def extent(self):
        """Where the blocks lie, in the indices of the whole matrix: left, right, bottom, top."""
        (rows, columns), (b, c) = self.values.shape, self.block
        return -0.5, columns * c - 0.5, rows * b - 0.5, -0.5

    @property
    def note(self):
        """The sentence that discloses the reduction, or nothing."""
        b, c = self.block
        return f"each cell: the {WORDS[self.how]} of {b} × {c} (queries × keys)" if b * c > 1 else ""


def make_grid(values, allowed=None, *, kind="weights", limits=(512, 512), how="max"):
    """Reduce a matrix to at most `limits` cells, band of rows by band of rows."""
    rows, columns = values.shape
    block = tuple(-(-n // limit) for n, limit in zip(values.shape, limits, strict=True))
    starts = range(0, rows, block[0]) if block != (1, 1) else (0,)
    height = block[0] if block != (1, 1) else rows
    bands = []
    for start in starts:
        part = slice(start, start + height)
        bands.append(Band(values[part], None if allowed is None else allowed[part], kind, start))
    if block == (1, 1):
        cells, states = bands[0].values, bands[0].states
    else:
        at = np.arange(0, columns, block[1])
        cells = np.stack([band.reduced(at, how) for band in bands])
        states = np.stack([band.state(at) for band in bands])
    return Grid(
        np.where(np.isin(states, (SEEN, LEAK)), cells, 0),
        states,
        block,
        (rows, columns),
        how,
        kind,
        {state: sum(band.counts[state] for band in bands) for state in NAMES},
        np.concatenate([band.sums for band in bands]),
        np.concatenate([band.alive for band in bands]),
        max((band.peak for band in bands if band.peak), default=None),
        min(band.low for band in bands),
    )


class Band:
    """A few whole rows: their cells, the states of these, and their facts."""

    def __init__(self, values, allowed, kind, start):
        self.values = values if values.dtype.itemsize >= 4 else values.astype(np.float32)
        states = classify(self.values, allowed, kind)
        self.plain = not states.any()
        self.states = states
        self.counts = dict.fromkeys(NAMES, 0)
        if not self.plain:
            self.counts = dict(zip(NAMES, np.bincount(states.ravel(), minlength=5)[1:].tolist(), strict=True))
        self.drawn: Any = None if self.plain else (states == SEEN) | (states == LEAK)
        self.alive = np.ones(len(values), bool) if self.plain else ~np.isin(states, (DEAD, NAN)).any(axis=1)
        self.sums = self.filled(0).sum(axis=1, dtype=np.float64)
        self.peak, self.low = self.extremes(start)

    def filled(self, value):
        return self.values if self.plain else np.where(self.drawn, self.values, value)

    def extremes(self, start):
        if not self.plain and not self.drawn.any():
            return None, np.inf
        filled = self.filled(-np.inf)
        i, j = np.unravel_index(filled.argmax(), filled.shape)
        return (float(filled[i, j]), -(start + int(i)), -int(j)), float(self.filled(np.inf).min())

    def reduced(self, at, how):
        """One row of blocks."""
        with np.errstate(invalid="ignore"):
            if how == "mean":
                drawn = np.ones(self.values.shape, bool) if self.plain else self.drawn
                count = np.add.reduceat(drawn.sum(axis=0), at)
                return np.add.reduceat(self.filled(0).sum(axis=0), at) / np.maximum(count, 1)
            most = np.maximum.reduceat(self.filled(-np.inf).max(axis=0), at)
            if how == "max":
                return most
            least = np.minimum.reduceat(self.filled(np.inf).min(axis=0), at)
            return least if how == "min" else np.where(most >= -least, most, least)

    def state(self, at):
        """The state of each block: what is wrong wins, then what has a number."""
        if self.plain:
            return np.full(len(at), SEEN, np.int8)
        has = {
            state: np.logical_or.reduceat((self.states == state).any(axis=0), at) for state in (NAN, LEAK, SEEN, MASKED)
        }
        return np.select([has[NAN], has[LEAK], has[SEEN], has[MASKED]], [NAN, LEAK, SEEN, MASKED], DEAD).astype(np.int8)
