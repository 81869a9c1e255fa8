"""What two matrices differ by, where, and on which of a kernel's tiles."""

import numpy as np
from matplotlib.collections import LineCollection

from attention_ref.errors import OptionError, ShapeError
from attention_ref.plot.describe import describe_grid, named
from attention_ref.plot.drawing import checks, colors
from attention_ref.plot.drawing.cells import add_colorbar, draw_cells
from attention_ref.plot.drawing.figures import own_axes, tell
from attention_ref.plot.drawing.legend import handles, put_legend
from attention_ref.plot.heatmap import finish, matrix_grid

NARROWEST = 6
"""Pixels of a tile below which its lines would hide what is under them."""

NAMES = {
    "abs": "a − b",
    "rel": "(a − b) / |b|",
    "ulp": "(a − b) in units of b's last place",
    "score": "(a − b) / bound",
}


def difference(
    a, b, kind="abs", *, bound=None, tile=None, query_labels=None, key_labels=None, allowed=None, ax=None, title=None,
    vmax=None, cbar=True, square=True, xticklabels="auto", yticklabels="auto", max_cells=512, reduce="extreme",
    legend=True,
):  # fmt: skip
    """a − b, with its sign, on a scale with 0 in its middle; b is the reference.

    `kind` is "abs", "rel" (to `abs(b)`), "ulp" (units in b's last place) or "score" (to `bound`, the error allowed for
    each element: beyond −1 to 1 it is too large). `tile` is a kernel's (rows, columns), drawn as a grid over the cells.
    """
    checks.choice("difference", "kind", kind, tuple(NAMES))
    a = checks.numbers("difference", a, ("query", "key"), "a")
    b = checks.numbers("difference", b, ("query", "key"), "b")
    if a.shape != b.shape:
        raise ShapeError(f"difference: a has shape {a.shape} and b {b.shape}; they must be the same")
    labels = named("difference", a.shape, query_labels, key_labels)
    tile = None if tile is None else checks.pair("difference", "tile", tile)
    values = compare(a, b, kind, bound)
    ax = own_axes("difference", ax, values.shape, square)
    grid = matrix_grid("difference", ax, values, allowed, "plain", square, max_cells, reduce)
    norm = colors.zero_centered("difference", [grid], vmax)
    image = draw_cells(ax, grid, colors.SIGNED, norm, square)
    notes = ["a and b are the same" if np.array_equal(values, np.zeros_like(values)) else ""]
    if tile is not None:
        seen = draw_tiles(ax, values.shape, tile)
        notes.append(f"lines: tiles of {tile[0]} × {tile[1]}" if seen else f"tiles of {tile[0]} × {tile[1]}: too small")
    finish("difference", ax, grid, labels, (xticklabels, yticklabels), title, notes)
    if cbar:
        add_colorbar(ax, image, norm, [grid], NAMES[kind])
    if legend:
        put_legend(ax, handles([grid], colors.SIGNED, norm))
    return tell(ax, describe_grid(grid, labels, title=title or f"difference {NAMES[kind]}"))


def compare(a, b, kind, bound=None):
    """The difference in float64; the same NaN or infinity in both is no difference."""
    if (kind == "score") != (bound is not None):
        raise OptionError('difference: kind="score" and bound=, the error allowed for each element, belong together')
    unit = {"abs": lambda: 1.0, "rel": lambda: np.abs(b), "ulp": lambda: np.spacing(np.abs(b)), "score": lambda: bound}
    if bound is not None:
        try:
            bound = np.broadcast_to(checks.real("difference", "bound", bound), a.shape)
        except ValueError:
            raise ShapeError(f"difference: bound of shape {np.shape(bound)} does not broadcast to {a.shape}") from None
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        d = np.subtract(a, b, dtype=np.float64)
        d = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, d)
        scaled = d / np.asarray(unit[kind](), np.float64)
    return np.where(d == 0, 0, scaled)


def draw_tiles(ax, shape, tile):
    """A line before the first row and column of every tile but the first; False where lines would hide the cells."""
    rows, columns = shape
    pixels = abs(ax.transData.transform((tile[1], tile[0])) - ax.transData.transform((0, 0)))
    if pixels.min() < NARROWEST:
        return False
    across = [[(-0.5, y - 0.5), (columns - 0.5, y - 0.5)] for y in range(tile[0], rows, tile[0])]
    down = [[(x - 0.5, -0.5), (x - 0.5, rows - 0.5)] for x in range(tile[1], columns, tile[1])]
    ax.add_collection(LineCollection(across + down, colors="white", linewidths=1.6, zorder=2), autolim=False)
    ax.add_collection(LineCollection(across + down, colors="black", linewidths=0.6, zorder=2.1), autolim=False)
    return True
