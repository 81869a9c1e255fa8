"""One matrix on one axes: its cells, labels, title, colorbar and legend. Every figure of a matrix is drawn here."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from attention_ref.plot.drawing import checks, colors
from attention_ref.plot.drawing.cells import add_colorbar, annotate, cells_that_fit, draw_cells
from attention_ref.plot.drawing.figures import own_axes
from attention_ref.plot.drawing.labels import label_axes
from attention_ref.plot.drawing.legend import handles, put_legend
from attention_ref.plot.drawing.look import LabelPair, Look
from attention_ref.plot.drawing.reduction import REDUCTIONS, Grid, make_grid


def axes_and_grid(
    owner: str, ax: Axes | None, values: np.ndarray, kind: str, allowed: Any, look: Look
) -> tuple[Axes, Grid]:
    """The axes to draw on, and the matrix reduced to the cells that it has pixels for."""
    ax = own_axes(owner, ax, values.shape, look.square)
    allowed = checks.boolean(owner, allowed, values.shape)
    checks.choice(owner, "reduce", look.reduce, REDUCTIONS)
    max_cells = checks.positive(owner, "max_cells", look.max_cells)
    limits = cells_that_fit(ax, values.shape, look.square, max_cells)
    return ax, make_grid(values, allowed, kind=kind, limits=limits, how=look.reduce)


def draw_matrix(
    owner: str, ax: Axes, grid: Grid, norm: Normalize, labels: LabelPair, look: Look, notes: Sequence[str] = ()
) -> None:
    """Draw a grid; `notes` are what the reader has to know, beside the name of the keys' axis."""
    cmap = colors.colormap(owner, look.cmap)
    image = draw_cells(ax, grid, cmap, norm, look.square)
    annotate(owner, ax, grid, cmap, norm, look.annot, look.fmt)
    label_axes(owner, ax, labels, grid.shape, (look.xticklabels, look.yticklabels))
    name_axes(ax, [note for note in (grid.note, *notes) if note], look)
    if look.title is not None:
        ax.set_title(look.title)
    if look.cbar:
        add_colorbar(ax, image, norm, [grid], look.cbar_label)
    if look.legend:
        put_legend(ax, handles([grid], cmap, norm))


def name_axes(ax: Axes, notes: list[str], look: Look) -> None:
    """The names of both axes, and the notes on the far side of the keys' name: above it where the keys are on top."""
    ax.set_ylabel(look.query_axis)
    if look.keys_on_top:
        ax.xaxis.set_ticks_position("top")
        ax.xaxis.set_label_position("top")
        ax.set_xlabel("\n".join([*notes, look.key_axis]))
    else:
        ax.set_xlabel("\n".join([look.key_axis, *notes]))
