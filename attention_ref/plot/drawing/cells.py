"""The cells of one matrix: colors, hatches, numbers, and the colorbar beside them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, Normalize
from matplotlib.image import AxesImage
from matplotlib.text import Text

from attention_ref.errors import OptionError, ShapeError
from attention_ref.plot.drawing import checks, colors
from attention_ref.plot.drawing.figures import has_square_cells
from attention_ref.plot.drawing.legend import draw_states
from attention_ref.plot.drawing.reduction import Grid
from attention_ref.plot.drawing.states import COLORED

MOST_NUMBERS = 900  # 30 × 30: each number is an artist that takes time, and beyond this none fits in a cell
NUMBER_SIZE = 7  # points: the smallest that is easily read in print


def draw_cells(ax: Axes, grid: Grid, cmap: Colormap, norm: Normalize, square: bool = True) -> AxesImage:
    """The image of a grid in the indices of the complete matrix, and over or under it the states.

    There is no frame: where a cell is a pixel, it would hide those at the edge.
    """
    left, right, bottom, top = grid.extent
    image = ax.imshow(
        colors.snapped(grid.colored, norm),
        cmap=cmap,
        norm=norm,
        interpolation="nearest",
        origin="upper",
        extent=grid.extent,
        aspect="equal" if has_square_cells(square, grid.shape) else "auto",
    )
    draw_states(ax, grid)
    ax.spines[:].set_visible(False)
    # the last blocks may reach beyond the matrix
    ax.set_xlim(left, min(right, grid.shape[1] - 0.5))
    ax.set_ylim(min(bottom, grid.shape[0] - 0.5), top)
    return image


def cells_that_fit(ax: Axes, shape: tuple[int, ...], square: bool, max_cells: int) -> tuple[int, ...]:
    """How many cells each axis of a matrix can show on this axes, a pixel for each at least."""
    box = ax.get_window_extent()
    rows, columns = shape
    # a tenth is left for labels and the colorbar, which take their room only when the layout is done
    pixels = np.array([box.height, box.width]) * 0.9
    if has_square_cells(square, shape):
        pixels = np.array([rows, columns]) * min(pixels[0] / rows, pixels[1] / columns)
    return tuple(int(max(1, min(max_cells, p))) for p in pixels)


class Number(Text):
    """A number in a cell, drawn only where a text `characters` long fits; for None, always."""

    axes: Any

    def __init__(self, column: int, row: int, text: str, characters: int | None, color: str):
        super().__init__(column, row, text, color=color, fontsize=NUMBER_SIZE, ha="center", va="center", clip_on=True)
        self.characters = characters
        self.set_parse_math(False)
        self.set_in_layout(False)

    def fits(self) -> bool:
        """Whether the cell has room at the figure's present size; a digit of DejaVu Sans is 0.64 em wide."""
        if self.characters is None:
            return True
        corners = self.axes.transData.transform([(0, 0), (1, 1)])
        width, height = abs(corners[1] - corners[0])
        em = self.get_fontsize() * self.axes.figure.canvas.figure.dpi / 72
        return width > (0.64 * self.characters + 0.3) * em and height > 1.3 * em

    def draw(self, renderer: Any) -> None:
        if self.fits():
            super().draw(renderer)


def annotate(owner: str, ax: Axes, grid: Grid, cmap: Colormap, norm: Normalize, annot: Any, fmt: str) -> None:
    """Write numbers into cells: all of them if they fit ("auto"), all (True), none, the chosen ones, or other texts."""
    chosen, texts = cells_and_texts(owner, grid, annot)
    if grid.block != (1, 1) or not np.any(chosen):
        return
    written = {}
    for i, j in np.argwhere(np.isin(grid.states, COLORED) & chosen):
        try:
            written[i, j] = format(grid.values[i, j], fmt) if texts is None else str(texts[i, j])
        except (ValueError, TypeError):
            raise OptionError(f"{owner}: fmt={fmt!r} cannot format a number; try '.2f' or '.1e'") from None
    # all disappear together: a number missing between others would look like a 0
    characters = None if annot is True else max(map(len, written.values()), default=0)
    for (i, j), text in written.items():
        ax.add_artist(Number(j, i, text, characters, colors.ink(cmap(norm(grid.values[i, j])))))


def cells_and_texts(owner: str, grid: Grid, annot: Any) -> tuple[Any, np.ndarray | None]:
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


def add_colorbar(ax: Axes, image: Any, norm: Normalize, grids: Sequence[Grid], label: str) -> Colorbar:
    """A colorbar as high as the image, beside it; its arrows say that values lie beyond its ends."""
    bar = ax.inset_axes((1.03, 0, 0.045, 1))
    colorbar = ax.figure.colorbar(image, cax=bar, extend=colors.extend(norm, grids))
    colorbar.set_label(label, fontsize="small")
    bar.tick_params(labelsize="small")
    colorbar.outline.set_linewidth(0.5)
    return colorbar
