"""The hatches of cells that are not plain numbers, and their legend: masked, empty row, NaN, masked and yet not 0."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.legend import Legend
from matplotlib.patches import Patch, PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.transforms import Bbox

from attention_ref.plot.drawing import colors
from attention_ref.plot.drawing.reduction import Grid
from attention_ref.plot.drawing.states import EMPTY, LEAK, MASKED, NAMES, NAN

# a hatch each, so that they differ without color and in print
LOOKS: dict[int, dict[str, Any]] = {
    MASKED: {"facecolor": colors.MASK_FILL, "edgecolor": colors.MASK_INK, "hatch": "/////"},
    EMPTY: {"facecolor": colors.EMPTY_FILL, "edgecolor": colors.EMPTY_INK, "hatch": "-----"},
    NAN: {"facecolor": colors.NAN_FILL, "edgecolor": colors.NAN_INK, "hatch": "xxxxx"},
    LEAK: {"facecolor": "none", "edgecolor": colors.LEAK_INK, "hatch": "\\\\\\\\\\"},
}

# small, and patches large enough that their hatch can be made out
STYLE: dict[str, Any] = {
    "fontsize": "small",
    "frameon": False,
    "borderaxespad": 0.4,
    "handlelength": 1.6,
    "handleheight": 1.1,
    "columnspacing": 1.2,
}


def draw_states(ax: Axes, grid: Grid) -> None:
    """Hatch the cells that are not plain numbers. Masked cells show a sheet that lies under the transparent image."""
    left, right, bottom, top = grid.extent
    b, c = grid.block
    for state, look in LOOKS.items():
        where = grid.states == state
        if not where.any():
            continue
        if state == MASKED:
            # one rectangle instead of a path around thousands of cells: small files, and no seams between cells
            width, height = right - left, bottom - top
            sheet: Patch = Rectangle((left, top), width, height, linewidth=0, zorder=-1, label=NAMES[state], **look)
        else:
            path = boxes(where, (left, top), (c, b))
            linewidth = 0.8 if state == LEAK else 0  # a leak keeps its color, so its box needs an edge
            sheet = PathPatch(path, linewidth=linewidth, zorder=1.5, label=NAMES[state], **look)
        ax.add_patch(sheet)


def boxes(where: np.ndarray, origin: tuple[float, float], size: tuple[int, int]) -> Path:
    """One path around all the cells marked: a rectangle for every run, equal runs in successive rows merged."""
    edges = np.diff(np.pad(where, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    vertices, codes, open_runs = [], [], {}

    def close(run: tuple[int, int], start: int, stop: int) -> None:
        x0, x1 = (origin[0] + size[0] * x for x in run)
        y0, y1 = (origin[1] + size[1] * y for y in (start, stop))
        vertices.extend([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)])
        codes.extend([Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY])

    for row in range(len(where) + 1):
        edge = edges[row] if row < len(where) else np.zeros(0)
        runs = set(zip(np.flatnonzero(edge == 1).tolist(), np.flatnonzero(edge == -1).tolist(), strict=True))
        for run in [run for run in open_runs if run not in runs]:
            close(run, open_runs.pop(run), row)
        for run in runs:
            open_runs.setdefault(run, row)
    return Path(vertices, codes)


def handles(grids: Sequence[Grid], cmap: Any, norm: Any) -> list[Patch]:
    """A patch for each state that is on the plot, and beside the masked ones what 0 looks like."""
    present = [state for state in NAMES if any((grid.states == state).any() for grid in grids)]
    patches = [Patch(label=NAMES[state], linewidth=0.5, **LOOKS[state]) for state in present]
    if present and all(grid.kind == "weights" for grid in grids):
        patches.append(Patch(facecolor=cmap(norm(0.0)), edgecolor="#444444", linewidth=0.5, label="near 0"))
    return patches


class Underneath(Legend):
    """A legend right under an x-axis, its tick labels and its name, wherever these are at drawing time."""

    def get_bbox_to_anchor(self) -> Bbox:
        box = self.axes.get_window_extent()
        axis = self.axes.xaxis.get_tightbbox()
        bottom = box.y0 if axis is None else min(axis.y0, box.y0)
        return Bbox([[box.x0, bottom], [box.x1, bottom]])


def put_legend(ax: Axes, patches: Sequence[Patch]) -> None:
    """The legend of one axes, under it."""
    if patches:
        labels = [str(patch.get_label()) for patch in patches]
        ax.legend_ = Underneath(ax, patches, labels, loc="upper center", ncols=min(len(patches), 2), **STYLE)
