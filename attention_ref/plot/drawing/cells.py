"""One matrix on one axes: colored cells, hatched cells, numbers in cells, the colorbar, the names of the axes."""

from typing import Any

import numpy as np
from matplotlib.text import Text

from attention_ref.errors import OptionError, ShapeError
from attention_ref.plot.drawing import checks, colors
from attention_ref.plot.drawing.figures import even
from attention_ref.plot.drawing.legend import draw_states
from attention_ref.plot.drawing.states import LEAK, SEEN

MOST_NUMBERS = 900


def draw_cells(ax, grid, cmap, norm, square=True):
    """The image of a grid in the indices of the whole matrix, and over or under it the states.

    There is no frame: where a cell is a pixel, it would hide those at the edge.
    """
    left, right, bottom, top = grid.extent
    image = ax.imshow(
        colors.snapped(grid.shown, norm), cmap=cmap, norm=norm, interpolation="nearest", origin="upper",
        extent=grid.extent, aspect="equal" if even(square, grid.shape) else "auto",
    )  # fmt: skip
    draw_states(ax, grid)
    ax.spines[:].set_visible(False)
    ax.set_xlim(left, min(right, grid.shape[1] - 0.5))
    ax.set_ylim(min(bottom, grid.shape[0] - 0.5), top)
    return image


def room(ax, shape, square, max_cells):
    """How many cells each axis of a matrix can show on this axes, a pixel for each at least."""
    box = ax.get_window_extent()
    rows, columns = shape
    pixels = np.array([box.height, box.width]) * 0.9
    if even(square, shape):
        pixels = np.array([rows, columns]) * min(pixels[0] / rows, pixels[1] / columns)
    return tuple(int(max(1, min(max_cells, p))) for p in pixels)


class Number(Text):
    """A number in a cell, drawn only where a text `em` characters long fits; for None, always."""

    axes: Any

    def __init__(self, column, row, text, em, color):
        super().__init__(column, row, text, color=color, fontsize=7, ha="center", va="center", clip_on=True)
        self.em = em
        self.set_parse_math(False)
        self.set_in_layout(False)

    def fits(self):
        if self.em is None:
            return True
        corners = self.axes.transData.transform([(0, 0), (1, 1)])
        width, height = abs(corners[1] - corners[0])
        em = self.get_fontsize() * self.axes.figure.canvas.figure.dpi / 72
        return width > (0.64 * self.em + 0.3) * em and height > 1.3 * em

    def draw(self, renderer):
        if self.fits():
            super().draw(renderer)


def annotate(owner, ax, grid, cmap, norm, annot, fmt):
    """Write numbers into cells: all of them if they fit ("auto"), all (True), none, the chosen ones, or other texts."""
    chosen, texts = wanted(owner, grid, annot)
    if grid.block != (1, 1) or not np.any(chosen):
        return
    drawn = np.isin(grid.states, (SEEN, LEAK)) & chosen
    try:
        written = {
            (i, j): format(grid.values[i, j], fmt) if texts is None else str(texts[i, j]) for i, j in np.argwhere(drawn)
        }
    except (ValueError, TypeError):
        raise OptionError(f"{owner}: fmt={fmt!r} cannot format a number; try '.2f' or '.1e'") from None
    em = None if annot is True else max(map(len, written.values()), default=0)
    for (i, j), text in written.items():
        ax.add_artist(Number(j, i, text, em, colors.ink(cmap(norm(grid.values[i, j])))))


def wanted(owner, grid, annot):
    """(the cells to write in, the texts to write or None for the values)."""
    if isinstance(annot, (bool, np.bool_)):
        return bool(annot), None
    if isinstance(annot, str):
        checks.choice(owner, "annot", annot, ("auto", True, False))
        return grid.states.size <= MOST_NUMBERS, None
    array = np.asarray(annot)
    if array.shape != grid.shape:
        raise ShapeError(
            f"{owner}: annot of shape {array.shape} must be {grid.shape}: a boolean array for chosen cells, or texts"
        )
    return (array, None) if array.dtype.kind == "b" else (True, array)


def add_colorbar(ax, image, norm, grids, label):
    """A colorbar as high as the image, beside it; its arrows say that values lie beyond its ends."""
    bar = ax.inset_axes((1.03, 0, 0.045, 1))
    colorbar = ax.figure.colorbar(image, cax=bar, extend=colors.extend(norm, grids))
    colorbar.set_label(label, fontsize="small")
    bar.tick_params(labelsize="small")
    colorbar.outline.set_linewidth(0.5)
    return colorbar


def name_axes(ax, notes=(), query="query (i)", key="key (j)"):
    """The names of both axes; under the lower one, whatever the reader has to know."""
    ax.set_ylabel(query)
    ax.set_xlabel("\n".join([key, *(note for note in notes if note)]))
