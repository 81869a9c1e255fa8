"""What two matrices differ by, where, and on which of a kernel's tiles."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from attention_ref.errors import OptionError, ShapeError
from attention_ref.plot.describe import checked_labels, describe_grid
from attention_ref.plot.drawing import checks, colors
from attention_ref.plot.drawing.figures import set_alt_text
from attention_ref.plot.drawing.look import Look, Reduction, TickLabels
from attention_ref.plot.drawing.matrix import axes_and_grid, draw_matrix

NARROWEST = 6  # pixels of a tile; the two lines of 1.6 points over each other would hide the cells of a smaller one

Kind = Literal["abs", "rel", "ulp", "score"]
FORMULAS = {
    "abs": "a − b",
    "rel": "(a − b) / |b|",
    "ulp": "(a − b) in units of b's last place",
    "score": "(a − b) / bound",
}


def difference(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    kind: Kind = "abs",
    *,
    bound: npt.ArrayLike | None = None,
    tile: int | tuple[int, int] | None = None,
    query_labels: Sequence[str] | None = None,
    key_labels: Sequence[str] | None = None,
    allowed: npt.ArrayLike | None = None,
    ax: Axes | None = None,
    title: str | None = None,
    vmax: float | None = None,
    cbar: bool = True,
    square: bool = True,
    xticklabels: TickLabels = "auto",
    yticklabels: TickLabels = "auto",
    max_cells: int = 512,
    reduce: Reduction = "extreme",
    legend: bool = True,
) -> Axes:
    """a − b, with its sign, on a scale with 0 in its middle; b is the reference.

    `kind` is "abs", "rel" (to `abs(b)`), "ulp" (units in b's last place) or "score" (to `bound`, the error allowed for
    each element: beyond −1 to 1 it is too large). `tile` is a kernel's (rows, columns), drawn as a grid over the cells.
    """
    look = Look(
        vmax=vmax,
        cbar=cbar,
        legend=legend,
        square=square,
        xticklabels=xticklabels,
        yticklabels=yticklabels,
        max_cells=max_cells,
        reduce=reduce,
        title=title,
    )
    return draw_difference(a, b, kind, bound, tile, look, ax, query_labels, key_labels, allowed)


def draw_difference(
    a: Any,
    b: Any,
    kind: Kind,
    bound: Any,
    tile: Any,
    look: Look,
    ax: Axes | None,
    query_labels: Any = None,
    key_labels: Any = None,
    allowed: Any = None,
) -> Axes:
    """`difference`, with a look that may give the axes other names."""
    checks.choice("difference", "kind", kind, tuple(FORMULAS))
    a = checks.numbers("difference", a, ("query", "key"), "a")
    b = checks.numbers("difference", b, ("query", "key"), "b")
    if a.shape != b.shape:
        raise ShapeError(f"difference: a has shape {a.shape} and b {b.shape}; they must be the same")
    labels = checked_labels("difference", a.shape, query_labels, key_labels)
    tile = None if tile is None else checks.pair("difference", "tile", tile)
    values = compare(a, b, kind, bound)
    look.cmap, look.annot, look.cbar_label = colors.SIGNED, False, FORMULAS[kind]
    ax, grid = axes_and_grid("difference", ax, values, "plain", allowed, look)
    notes = []
    if not values.any():
        notes.append("a and b are the same")
    if tile is not None:
        size = f"tiles of {tile[0]} × {tile[1]}"
        notes.append(f"lines: {size}" if lines_fit(ax, values.shape, tile) else f"{size}: too small")
    norm = colors.zero_centered("difference", [grid], look.vmax)
    draw_matrix("difference", ax, grid, norm, labels, look, notes)
    if tile is not None and lines_fit(ax, values.shape, tile):
        draw_tiles(ax, values.shape, tile)
    return set_alt_text(ax, describe_grid(grid, labels, title=look.title or f"difference {FORMULAS[kind]}"))


def compare(a: np.ndarray, b: np.ndarray, kind: Kind, bound: Any = None) -> np.ndarray:
    """The difference in float64; the same NaN or infinity in both is no difference."""
    if (kind == "score") != (bound is not None):
        raise OptionError('difference: kind="score" and bound=, the error allowed for each element, belong together')
    unit: Any = 1.0
    if kind == "rel":
        unit = np.abs(b)
    elif kind == "ulp":
        with np.errstate(invalid="ignore", over="ignore"):
            unit = np.spacing(np.abs(b))
    elif kind == "score":
        try:
            unit = np.broadcast_to(checks.real("difference", "bound", bound), a.shape)
        except ValueError:
            raise ShapeError(f"difference: bound of shape {np.shape(bound)} does not broadcast to {a.shape}") from None
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        d = np.subtract(a, b, dtype=np.float64)
        d = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, d)
        scaled = d / np.asarray(unit, np.float64)
    return np.where(d == 0, 0, scaled)  # 0 / 0 where both are 0, or the bound is


def lines_fit(ax: Axes, shape: tuple[int, ...], tile: tuple[int, int]) -> bool:
    """Whether the cells can still be seen between the lines."""
    box = ax.get_window_extent()
    return min(box.height * tile[0] / shape[0], box.width * tile[1] / shape[1]) >= NARROWEST


def draw_tiles(ax: Axes, shape: tuple[int, ...], tile: tuple[int, int]) -> None:
    """A line before the first row and column of every tile but the first."""
    rows, columns = shape
    across = [[(-0.5, y - 0.5), (columns - 0.5, y - 0.5)] for y in range(tile[0], rows, tile[0])]
    down = [[(x - 0.5, -0.5), (x - 0.5, rows - 0.5)] for x in range(tile[1], columns, tile[1])]
    # black on wider white: seen on the dark, the gray and the light cells of the scale
    ax.add_collection(LineCollection(across + down, colors="white", linewidths=1.6, zorder=2), autolim=False)
    ax.add_collection(LineCollection(across + down, colors="black", linewidths=0.6, zorder=2.1), autolim=False)
