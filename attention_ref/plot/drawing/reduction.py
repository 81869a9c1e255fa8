"""A matrix made small enough to draw, its peaks kept, and facts about all of it: states, sums, the largest value.

Each axis is cut into blocks of equal length. A block shows one number, by default its largest, so that a single
bright cell among thousands is still there. A block holding a NaN or a leak is shown as such, whatever else it holds.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from attention_ref.plot.drawing.states import COLORED, EMPTY, LEAK, MASKED, NAMES, NAN, SEEN, classify

REDUCTIONS = ("max", "min", "mean", "extreme")
WORDS = {"max": "largest", "min": "smallest", "mean": "mean", "extreme": "value farthest from 0"}


class Peak(NamedTuple):
    """The largest value, and the first row and column that hold it."""

    value: float
    row: int
    column: int


@dataclass(frozen=True)
class Grid:
    """The cells to draw: `values` and `states` by block, and facts about the complete matrix."""

    values: np.ndarray
    states: np.ndarray
    block: tuple[int, int]
    shape: tuple[int, int]
    how: str
    kind: str  # "weights", "scores", "gradient" or "plain": what a mask means for the values
    counts: dict[int, int]  # cells by state, of the states in NAMES
    sums: np.ndarray  # of every row
    row_states: np.ndarray  # of every row: EMPTY, NAN, or SEEN where it has a sum that should be 1
    peak: Peak | None  # None where no cell has a color
    low: float

    @property
    def colored(self) -> np.ma.MaskedArray:
        """The values as a masked array: only numbers are drawn in color."""
        return np.ma.masked_array(self.values, ~np.isin(self.states, COLORED))

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Where the blocks lie, in the indices of the complete matrix: left, right, bottom, top."""
        (rows, columns), (b, c) = self.values.shape, self.block
        return -0.5, columns * c - 0.5, rows * b - 0.5, -0.5

    @property
    def note(self) -> str:
        """The sentence that discloses the reduction, or nothing."""
        b, c = self.block
        return f"each cell: the {WORDS[self.how]} of {b} × {c} (queries × keys)" if b * c > 1 else ""


def make_grid(
    values: np.ndarray,
    allowed: np.ndarray | None = None,
    *,
    kind: str = "weights",
    limits: tuple[int, ...] = (512, 512),
    how: str = "max",
) -> Grid:
    """Reduce a matrix to at most `limits` cells.

    It is read a band of rows at a time, so that eight heads of 4,096² in float32 need little memory beside their own.
    """
    rows, columns = values.shape
    block = (-(-rows // limits[0]), -(-columns // limits[1]))  # the quotients rounded up
    height = rows if block == (1, 1) else block[0]
    bands = []
    for start in range(0, rows, height):
        band = slice(start, start + height)
        bands.append(Band(values[band], None if allowed is None else allowed[band], kind, start))
    if block == (1, 1):
        cells, states = bands[0].values, bands[0].states
    else:
        starts = np.arange(0, columns, block[1])
        cells = np.stack([band.reduced(starts, how) for band in bands])
        states = np.stack([band.block_states(starts) for band in bands])
    return Grid(
        values=np.where(np.isin(states, COLORED), cells, 0),
        states=states,
        block=block,
        shape=(rows, columns),
        how=how,
        kind=kind,
        counts={state: sum(band.counts[state] for band in bands) for state in NAMES},
        sums=np.concatenate([band.sums for band in bands]),
        row_states=np.concatenate([band.row_states for band in bands]),
        peak=max((band.peak for band in bands if band.peak), key=lambda peak: peak.value, default=None),
        low=min(band.low for band in bands),
    )


class Band:
    """A few complete rows: their cells, the states of these, and their facts."""

    def __init__(self, values: np.ndarray, allowed: np.ndarray | None, kind: str, start: int):
        self.values = values if values.dtype.itemsize >= 4 else values.astype(np.float32)
        self.states = classify(self.values, allowed, kind)
        self.row_states = np.full(len(values), SEEN, np.int8)
        self.counts = dict.fromkeys(NAMES, 0)
        self.colored: np.ndarray | None = None  # None: all cells, as in nearly every band, without a copy of them
        if self.states.any():
            counts = np.bincount(self.states.ravel(), minlength=5)
            self.counts = {state: int(counts[state]) for state in NAMES}
            self.colored = np.isin(self.states, COLORED)
            for state in (EMPTY, NAN):
                self.row_states[(self.states == state).any(axis=1)] = state
        self.sums = self.filled(0).sum(axis=1, dtype=np.float64)
        self.peak, self.low = self.extremes(start)

    def filled(self, value: float) -> np.ndarray:
        """The values, with `value` in the cells without a color."""
        return self.values if self.colored is None else np.where(self.colored, self.values, value)

    def extremes(self, start: int) -> tuple[Peak | None, float]:
        """The largest value with its place in the complete matrix, and the smallest."""
        if self.colored is not None and not self.colored.any():
            return None, np.inf
        filled = self.filled(-np.inf)
        i, j = np.unravel_index(filled.argmax(), filled.shape)
        return Peak(float(filled[i, j]), start + int(i), int(j)), float(self.filled(np.inf).min())

    def reduced(self, starts: np.ndarray, how: str) -> np.ndarray:
        """One row of blocks, which begin at the columns `starts`."""
        with np.errstate(invalid="ignore"):
            if how == "mean":
                colored = np.ones(self.values.shape, bool) if self.colored is None else self.colored
                count = np.add.reduceat(colored.sum(axis=0), starts)
                return np.add.reduceat(self.filled(0).sum(axis=0), starts) / np.maximum(count, 1)
            most = np.maximum.reduceat(self.filled(-np.inf).max(axis=0), starts)
            if how == "max":
                return most
            least = np.minimum.reduceat(self.filled(np.inf).min(axis=0), starts)
            return least if how == "min" else np.where(most >= -least, most, least)

    def block_states(self, starts: np.ndarray) -> np.ndarray:
        """The state of each block: what is wrong wins, then what has a number."""
        ranked = (NAN, LEAK, SEEN, MASKED)
        present = [np.logical_or.reduceat((self.states == state).any(axis=0), starts) for state in ranked]
        return np.select(present, ranked, EMPTY).astype(np.int8)
