"""Many matrices on one figure, on one scale and with one colorbar: the heads of a layer, the layers of a model."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from attention_ref.errors import OptionError, ShapeError
from attention_ref.plot.describe import describe_grid, named
from attention_ref.plot.drawing import checks, colors
from attention_ref.plot.drawing.cells import add_colorbar, annotate, draw_cells, room
from attention_ref.plot.drawing.figures import own_figure, tell
from attention_ref.plot.drawing.labels import LONGEST, label_axes
from attention_ref.plot.drawing.legend import STYLE, handles
from attention_ref.plot.drawing.reduction import REDUCTIONS, make_grid
from attention_ref.plot.drawing.row_sums import check_rows

OVER: dict[str, Callable] = {"mean": np.mean, "max": np.max, "min": np.min}
WIDEST = 20


@dataclass
class Look:
    """How the panels of a grid are drawn; the fields are the options of `heads` and `layers`."""

    cmap: object = colors.SEQUENTIAL
    norm: Normalize | None = None
    vmin: float | None = 0
    vmax: float | None = 1
    shared: bool = True
    annot: object = "auto"
    fmt: str = ".2f"
    square: bool = True
    max_cells: int = 512
    reduce: str = "max"
    check_rows: str = "warn"
    cbar_label: str = "weight α"


def heads(
    alpha, *, heads=None, over_heads=None, query_labels=None, key_labels=None, allowed=None, titles=None, ncols=None,
    figure=None, **look,
):  # fmt: skip
    """The heads of one layer, (head, query, key), side by side on one scale with one colorbar.

    `heads` chooses some; `over_heads` draws their "mean", "max" or "min" instead. With `shared=False` each panel has
    its own scale, from its own data, and its own colorbar. Further options are those of `heatmap`: cmap, norm, vmin,
    vmax, annot, fmt, square, max_cells, reduce, check_rows.
    """
    values = checks.numbers("heads", alpha, ("head", "query", "key"))
    allowed = checks.boolean("heads", allowed, values.shape)
    chosen = checks.subset("heads", "heads", heads, len(values))
    panels = combine("heads", [[values[h] for h in chosen]], [[at(allowed, h) for h in chosen]], over_heads, None)
    names = panel_names("heads", titles, chosen, over_heads, "head")
    columns = checks.positive("heads", "ncols", ncols) if ncols is not None else None
    rows = wrap([(*panel, name) for panel, name in zip(panels[0], names, strict=True)], columns)
    labels = named("heads", values.shape[1:], query_labels, key_labels)
    return draw("heads", rows, labels, options("heads", look, over_heads), figure, panel_size(values.shape[1:], rows))


def layers(
    alphas, *, layers=None, heads=None, over_heads=None, over_layers=None, query_labels=None, key_labels=None,
    allowed=None, figure=None, **look,
):  # fmt: skip
    """A whole model, (layer, head, query, key): a row for every layer, a column for every head, on one scale.

    `alphas` may be a list with one array a layer, also with a batch axis of one, as Hugging Face gives them.
    `layers` and `heads` choose some; `over_heads` and `over_layers` draw "mean", "max" or "min". Further options as
    for `heads`.
    """
    values = stacked("layers", alphas)
    allowed = checks.boolean("layers", allowed, (len(values), *values[0].shape))
    depth = checks.subset("layers", "layers", layers, len(values))
    width = checks.subset("layers", "heads", heads, len(values[0]))
    matrices = [[values[layer][h] for h in width] for layer in depth]
    masks = [[at(at(allowed, layer), h) for h in width] for layer in depth]
    panels = combine("layers", matrices, masks, over_heads, over_layers)
    down = panel_names("layers", None, depth, over_layers, "layer")
    across = panel_names("layers", None, width, over_heads, "head")
    rows = [
        [(*panel, f"{layer}, {head}") for panel, head in zip(row, across, strict=True)]
        for row, layer in zip(panels, down, strict=True)
    ]
    margins: tuple | None = (down, across)
    if len(across) == 1 or len(down) == 1:
        rows, margins = wrap([panel for row in rows for panel in row]), None
    look = options("layers", {"annot": False} | look, over_heads or over_layers)
    labels = named("layers", values[0].shape[1:], query_labels, key_labels)
    size = panel_size(values[0].shape[1:], rows, smallest=1.0)
    return draw("layers", rows, labels, look, figure, size, margins)


def wrap(panels, columns=None):
    """Rows of panels, as many as columns unless said otherwise."""
    columns = columns or ceil(sqrt(len(panels)))
    return [panels[at : at + columns] for at in range(0, len(panels), columns)]


def stacked(owner, alphas, axes=("head", "query", "key"), over="layer"):
    """One array a layer; an array with a layer axis, or a list of arrays of one shape."""
    if hasattr(alphas, "shape"):
        return list(checks.numbers(owner, alphas, (over, *axes), "alphas"))
    if isinstance(alphas, (str, dict)) or not hasattr(alphas, "__iter__"):
        raise OptionError(f"{owner}: alphas must be an array or a list of arrays; got {type(alphas).__name__}")
    arrays = [unbatched(owner, checks.real(owner, "alphas", one), len(axes)) for one in alphas]
    if not arrays:
        raise ShapeError(f"{owner}: alphas is empty; there is nothing to draw")
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise ShapeError(f"{owner}: the layers have different shapes, {shapes[0]} and {shapes[1]}; draw each by itself")
    return [checks.numbers(owner, array, axes, "a layer of alphas") for array in arrays]


def unbatched(owner, array, ndim):
    if array.ndim != ndim + 1:
        return array
    if len(array) == 1:
        return array[0]
    raise ShapeError(f"{owner}: a layer of shape {array.shape} holds {len(array)} batch entries; choose one, a[0]")


def at(allowed, index):
    return None if allowed is None else allowed[index]


def combine(owner, matrices, masks, over_heads, over_layers):
    """The (matrix, allowed) of every panel, after taking the mean, max or min over heads and layers."""
    for name, over in (("over_heads", over_heads), ("over_layers", over_layers)):
        if over is not None:
            checks.choice(owner, name, over, tuple(OVER))
    panels = [list(zip(*row, strict=True)) for row in zip(matrices, masks, strict=True)]
    if over_heads:
        panels = [[merge(row, over_heads)] for row in panels]
    if over_layers:
        panels = [[merge(list(column), over_layers) for column in zip(*panels, strict=True)]]
    return panels


def merge(panels, over):
    matrices, masks = zip(*panels, strict=True)
    return OVER[over](matrices, axis=0), None if masks[0] is None else np.any(masks, axis=0)


def panel_names(owner, titles, chosen, over, what):
    default = [f"{over} over {len(chosen)} {what}s"] if over else [f"{what} {index}" for index in chosen]
    return checks.labels(owner, "titles", titles, len(default), "panels") or default


def options(owner, look, over):
    unknown = sorted(set(look) - set(Look.__dataclass_fields__))
    if unknown:
        hint = checks.did_you_mean(unknown[0], Look.__dataclass_fields__)
        raise OptionError(f"{owner}: there is no option {unknown[0]!r}{hint}")
    look = Look(**look)
    checks.choice(owner, "reduce", look.reduce, REDUCTIONS)
    if over in ("max", "min"):
        look.check_rows = "ignore"
    return look


def panel_size(shape, rows, smallest=1.6):
    """Inches of one panel: roomier where there are few, and never so many that the figure is wider than WIDEST."""
    side = max(smallest, min(3.2, 16 / max(len(rows), len(rows[0]))))
    side = min(side, WIDEST / len(rows[0]))
    ratio = min(max(shape[0] / shape[1], 0.4), 2.5)
    return (side, side * ratio) if ratio < 1 else (side / ratio, side)


def draw(owner, rows, labels, look, figure, size, margins=None):
    """Draw rows of (matrix, allowed, name); `margins` are names for whole rows and columns instead of titles."""
    height, width = len(rows), max(map(len, rows))
    figure = own_figure(owner, figure, width * size[0] + 1.9, height * size[1] + 1.1 + 0.07 * longest(labels))
    axes = figure.subplots(height, width, squeeze=False)
    panels = {axes[r, c]: panel for r, row in enumerate(rows) for c, panel in enumerate(row)}
    for ax in axes.flat:
        ax.set_visible(ax in panels)
    grids = {}
    for ax, (matrix, allowed, _) in panels.items():
        limits = room(ax, matrix.shape, look.square, checks.positive(owner, "max_cells", look.max_cells))
        grids[ax] = make_grid(matrix, allowed, limits=limits, how=look.reduce)
    dtype = next(iter(panels.values()))[0].dtype
    wrong = check_rows(owner, {panels[ax][2]: grid for ax, grid in grids.items()}, dtype, look.check_rows)
    draw_all(owner, figure, panels, grids, look)
    for ax, (_, _, name) in panels.items():
        r, c = np.argwhere(axes == ax)[0]
        lowest = r == height - 1 or axes[r + 1, c] not in panels
        ticks = "auto" if lowest else False, "auto" if c == 0 else False
        label_axes(owner, ax, labels, grids[ax].shape, ticks, "x-small")
        if margins is None:
            ax.set_title(name, fontsize="medium")
        elif r == 0:
            ax.set_title(margins[1][c], fontsize="small")
        if c == 0:
            row_name = f"{margins[0][r]}\n" if margins else ""
            ax.set_ylabel(f"{row_name}query (i)", fontsize="small")
        if lowest:
            ax.set_xlabel("key (j)", fontsize="small")
        checked = dtype if look.check_rows != "ignore" else None
        tell(ax, describe_grid(grids[ax], labels, title=name, dtype=checked))
    notes = list(filter(None, [next(iter(grids.values())).note, wrong]))
    if notes:
        figure.supxlabel("\n".join(notes), fontsize="medium")
    return figure, axes


def longest(labels):
    return max((min(LONGEST, len(label)) for label in labels[1] or ()), default=0)


def draw_all(owner, figure, panels, grids, look):
    """The cells, the colorbar or colorbars, and one legend for all."""
    cmap = colors.colormap(owner, look.cmap)
    everything = list(grids.values())
    common = colors.scale(owner, look.norm, look.vmin, look.vmax, everything)
    for ax, grid in grids.items():
        norm = common if look.shared else colors.scale(owner, None, None, None, [grid])
        image = draw_cells(ax, grid, cmap, norm, look.square)
        annotate(owner, ax, grid, cmap, norm, look.annot, look.fmt)
        if not look.shared:
            add_colorbar(ax, image, norm, [grid], "")
    if look.shared:
        mappable = ScalarMappable(common, cmap)
        bar = figure.colorbar(
            mappable, ax=list(panels), extend=colors.extend(common, everything), shrink=0.9, aspect=30, fraction=0.05
        )
        bar.ax.tick_params(labelsize="small")
        bar.set_label(look.cbar_label, fontsize="small")
        bar.outline.set_linewidth(0.5)
    patches = handles(everything, cmap, common)
    if patches:
        figure.legend(handles=patches, loc="outside upper center", ncols=min(len(patches), 3), **STYLE)
