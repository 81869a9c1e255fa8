"""Many matrices on one figure, on one scale and with one colorbar: the heads of a layer, the layers of a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure, SubFigure

from attention_ref.errors import OptionError, ShapeError
from attention_ref.plot.describe import checked_labels, describe_grid
from attention_ref.plot.drawing import checks, colors
from attention_ref.plot.drawing.cells import add_colorbar, annotate, cells_that_fit, draw_cells
from attention_ref.plot.drawing.figures import own_figure, set_alt_text
from attention_ref.plot.drawing.labels import LONGEST, label_axes
from attention_ref.plot.drawing.legend import STYLE, handles
from attention_ref.plot.drawing.look import Combination, LabelPair, Look, PanelOptions, make_look
from attention_ref.plot.drawing.reduction import REDUCTIONS, Grid, make_grid
from attention_ref.plot.drawing.row_sums import check_rows

if TYPE_CHECKING:
    from typing_extensions import Unpack

COMBINE: dict[str, Callable] = {"mean": np.mean, "max": np.max, "min": np.min}
WIDEST = 20  # inches: what a screen of 1,920 pixels shows at 96 dpi


@dataclass
class Panel:
    """One matrix of many, [query, key]."""

    matrix: np.ndarray
    allowed: np.ndarray | None
    name: str = ""


def heads(
    alpha: npt.ArrayLike,
    *,
    heads: int | slice | Sequence[int] | None = None,
    over_heads: Combination | None = None,
    query_labels: Sequence[str] | None = None,
    key_labels: Sequence[str] | None = None,
    allowed: npt.ArrayLike | None = None,
    titles: Sequence[str] | None = None,
    ncols: int | None = None,
    figure: Figure | SubFigure | None = None,
    **look: "Unpack[PanelOptions]",
) -> tuple[Figure | SubFigure, npt.NDArray[Any]]:
    """The heads of one layer, (head, query, key), side by side on one scale with one colorbar; (figure, axes).

    `heads` chooses some of them; `over_heads` draws their "mean", "max" or "min" instead. With `shared=False` each
    panel has its own scale, from its own data, and its own colorbar. Further options are those of `heatmap`: cmap,
    norm, vmin, vmax, annot, fmt, square, max_cells, reduce, check_rows, cbar_label.
    """
    values = checks.numbers("heads", alpha, ("head", "query", "key"))
    masks = checks.boolean("heads", allowed, values.shape)
    chosen = checks.subset("heads", "heads", heads, len(values))
    panels = [Panel(values[h], None if masks is None else masks[h]) for h in chosen]
    (row,) = combine("heads", [panels], over_heads, None)
    names = panel_names("heads", titles, chosen, over_heads, "head")
    for panel, name in zip(row, names, strict=True):
        panel.name = name
    columns = ceil(sqrt(len(row))) if ncols is None else checks.positive("heads", "ncols", ncols)
    rows = in_rows(row, columns)
    labels = checked_labels("heads", values.shape[1:], query_labels, key_labels)
    size = panel_size(values.shape[1:], rows)
    return draw("heads", rows, labels, panel_look("heads", look, over_heads), figure, size)


def layers(
    alphas: npt.ArrayLike | Sequence[npt.ArrayLike],
    *,
    layers: int | slice | Sequence[int] | None = None,
    heads: int | slice | Sequence[int] | None = None,
    over_heads: Combination | None = None,
    over_layers: Combination | None = None,
    query_labels: Sequence[str] | None = None,
    key_labels: Sequence[str] | None = None,
    allowed: npt.ArrayLike | None = None,
    figure: Figure | SubFigure | None = None,
    **look: "Unpack[PanelOptions]",
) -> tuple[Figure | SubFigure, npt.NDArray[Any]]:
    """A complete model, (layer, head, query, key): a row for every layer, a column for every head; (figure, axes).

    `alphas` may be a list with an array for each layer, also with a batch axis of length one, as Hugging Face gives
    them. `layers` and `heads` choose some; `over_heads` and `over_layers` draw their "mean", "max" or "min". All are
    on one scale. Further options as for `heads`.
    """
    values = stacked("layers", alphas)
    masks = checks.boolean("layers", allowed, (len(values), *values[0].shape))
    layers_chosen = checks.subset("layers", "layers", layers, len(values))
    heads_chosen = checks.subset("layers", "heads", heads, len(values[0]))
    rows = []
    for layer in layers_chosen:
        rows.append([Panel(values[layer][h], None if masks is None else masks[layer][h]) for h in heads_chosen])
    rows = combine("layers", rows, over_heads, over_layers)
    layer_names = panel_names("layers", None, layers_chosen, over_layers, "layer")
    head_names = panel_names("layers", None, heads_chosen, over_heads, "head")
    for row, layer_name in zip(rows, layer_names, strict=True):
        for panel, head_name in zip(row, head_names, strict=True):
            panel.name = f"{layer_name}, {head_name}"
    margins: tuple[list[str], list[str]] | None = (layer_names, head_names)
    if len(head_names) == 1 or len(layer_names) == 1:
        # a single row or column would be a strip: it is wrapped, and each panel has its full name
        panels = [panel for row in rows for panel in row]
        rows, margins = in_rows(panels, ceil(sqrt(len(panels)))), None
    options = panel_look("layers", {"annot": False} | look, over_heads or over_layers)
    labels = checked_labels("layers", values[0].shape[1:], query_labels, key_labels)
    size = panel_size(values[0].shape[1:], rows, smallest=1.0)
    return draw("layers", rows, labels, options, figure, size, margins)


def in_rows(panels: list[Panel], columns: int) -> list[list[Panel]]:
    return [panels[start : start + columns] for start in range(0, len(panels), columns)]


def stacked(owner: str, alphas: Any, axes: Sequence[str] = ("head", "query", "key"), over: str = "layer") -> list:
    """An array for each layer, from an array with a layer axis, or a list of arrays of one shape."""
    if hasattr(alphas, "shape"):
        return list(checks.numbers(owner, alphas, (over, *axes), "alphas"))
    if isinstance(alphas, (str, dict)) or not hasattr(alphas, "__iter__"):
        raise OptionError(f"{owner}: alphas must be an array or a list of arrays; got {type(alphas).__name__}")
    arrays = [unbatched(owner, checks.real(owner, "alphas", array), len(axes)) for array in alphas]
    if not arrays:
        raise ShapeError(f"{owner}: alphas is empty; there is nothing to draw")
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise ShapeError(f"{owner}: the layers have different shapes, {shapes[0]} and {shapes[1]}; draw each by itself")
    return [checks.numbers(owner, array, axes, "a layer of alphas") for array in arrays]


def unbatched(owner: str, array: np.ndarray, ndim: int) -> np.ndarray:
    if array.ndim != ndim + 1:
        return array
    if len(array) == 1:
        return array[0]
    raise ShapeError(f"{owner}: a layer of shape {array.shape} holds {len(array)} batch entries; choose one, a[0]")


def combine(owner: str, rows: list[list[Panel]], over_heads: str | None, over_layers: str | None) -> list[list[Panel]]:
    """The panels after taking the mean, max or min over the heads of a row and the layers of a column."""
    for name, over in (("over_heads", over_heads), ("over_layers", over_layers)):
        if over is not None:
            checks.choice(owner, name, over, tuple(COMBINE))
    if over_heads:
        rows = [[merged(row, over_heads)] for row in rows]
    if over_layers:
        rows = [[merged(column, over_layers) for column in zip(*rows, strict=True)]]
    return rows


def merged(panels: Sequence[Panel], over: str) -> Panel:
    """One panel of many; what one of them may attend to, they may together."""
    matrix = COMBINE[over]([panel.matrix for panel in panels], axis=0)
    masks = [panel.allowed for panel in panels if panel.allowed is not None]
    return Panel(matrix, np.any(masks, axis=0) if masks else None)


def panel_names(owner: str, titles: Any, chosen: list[int], over: str | None, axis: str) -> list[str]:
    default = [f"{over} over {len(chosen)} {axis}s"] if over else [f"{axis} {index}" for index in chosen]
    return checks.labels(owner, "titles", titles, len(default), "panels") or default


def panel_look(owner: str, options: Any, over: str | None) -> Look:
    look = make_look(owner, options, PanelOptions)
    checks.choice(owner, "reduce", look.reduce, REDUCTIONS)
    if over in ("max", "min"):
        look.check_rows = "ignore"  # the rows of a maximum or a minimum of heads need not sum to 1
    return look


def panel_size(shape: Sequence[int], rows: list[list[Panel]], smallest: float = 1.6) -> tuple[float, float]:
    """Width and height of one panel in inches.

    The longer side has 3.2 inches where there are few panels and 16 inches over their number where there are many,
    but never less than `smallest`, in which its ticks can be read, unless the figure would be wider than WIDEST.
    """
    side = max(smallest, min(3.2, 16 / max(len(rows), len(rows[0]))))
    side = min(side, WIDEST / len(rows[0]))
    ratio = min(max(shape[0] / shape[1], 0.4), 2.5)  # longer matrices are drawn with cells that are not square
    return (side, side * ratio) if ratio < 1 else (side / ratio, side)


def draw(
    owner: str,
    rows: list[list[Panel]],
    labels: LabelPair,
    look: Look,
    figure: Figure | SubFigure | None,
    size: tuple[float, float],
    margins: tuple[list[str], list[str]] | None = None,
) -> tuple[Figure | SubFigure, npt.NDArray[Any]]:
    """Draw rows of panels; `margins` are names for complete rows and columns instead of titles."""
    height, width = len(rows), max(map(len, rows))
    # beside the panels: the colorbar and the queries' labels; below them: the legend and the keys' labels, upright
    figure = own_figure(owner, figure, width * size[0] + 1.9, height * size[1] + 1.1 + 0.07 * longest(labels))
    axes = figure.subplots(height, width, squeeze=False)
    panels = {axes[r, c]: panel for r, row in enumerate(rows) for c, panel in enumerate(row)}
    for ax in axes.flat:
        ax.set_visible(ax in panels)
    grids = {}
    max_cells = checks.positive(owner, "max_cells", look.max_cells)
    for ax, panel in panels.items():
        limits = cells_that_fit(ax, panel.matrix.shape, look.square, max_cells)
        grids[ax] = make_grid(panel.matrix, panel.allowed, limits=limits, how=look.reduce)
    dtype = rows[0][0].matrix.dtype
    wrong = check_rows(owner, {panels[ax].name: grid for ax, grid in grids.items()}, dtype, look.check_rows)
    draw_all(owner, figure, grids, look)
    for r, c in np.argwhere(np.isin(axes, list(panels))):
        ax = axes[r, c]
        lowest = r == height - 1 or axes[r + 1, c] not in panels
        ticks = "auto" if lowest else False, "auto" if c == 0 else False
        label_axes(owner, ax, labels, grids[ax].shape, ticks, "x-small")
        if margins is None:
            ax.set_title(panels[ax].name, fontsize="medium")
        elif r == 0:
            ax.set_title(margins[1][c], fontsize="small")
        if c == 0:
            row_name = f"{margins[0][r]}\n" if margins else ""
            ax.set_ylabel(f"{row_name}query (i)", fontsize="small")
        if lowest:
            ax.set_xlabel("key (j)", fontsize="small")
        checked = dtype if look.check_rows != "ignore" else None
        set_alt_text(ax, describe_grid(grids[ax], labels, title=panels[ax].name, dtype=checked))
    notes = [note for note in (grids[axes[0, 0]].note, wrong) if note]
    if notes:
        figure.supxlabel("\n".join(notes), fontsize="medium")
    return figure, axes


def longest(labels: LabelPair) -> int:
    """The characters of the longest label of the keys, as it is written."""
    return max((min(LONGEST, len(label)) for label in labels[1] or ()), default=0)


def draw_all(owner: str, figure: Figure | SubFigure, grids: dict[Axes, Grid], look: Look) -> None:
    """The cells, the colorbar or colorbars, and one legend for all."""
    cmap = colors.colormap(owner, look.cmap)
    every_grid = list(grids.values())
    common = colors.scale(owner, look.norm, look.vmin, look.vmax, every_grid)
    for ax, grid in grids.items():
        norm = common if look.shared else colors.scale(owner, None, None, None, [grid])
        image = draw_cells(ax, grid, cmap, norm, look.square)
        annotate(owner, ax, grid, cmap, norm, look.annot, look.fmt)
        if not look.shared:
            add_colorbar(ax, image, norm, [grid], "")
    if look.shared:
        bar = figure.colorbar(
            ScalarMappable(common, cmap),
            ax=list(grids),
            extend=colors.extend(common, every_grid),
            shrink=0.9,
            aspect=30,
            fraction=0.05,
        )
        bar.ax.tick_params(labelsize="small")
        bar.set_label(look.cbar_label, fontsize="small")
        bar.outline.set_linewidth(0.5)
    patches = handles(every_grid, cmap, common)
    if patches:
        figure.legend(handles=patches, loc="outside upper center", ncols=min(len(patches), 3), **STYLE)
