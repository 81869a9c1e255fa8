"""One matrix as a heatmap: the weights, a gradient, what is allowed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.patches import Patch

from attention_ref.errors import OptionError, ShapeError
from attention_ref.plot.describe import checked_labels, describe_grid
from attention_ref.plot.drawing import checks, colors
from attention_ref.plot.drawing.figures import set_alt_text
from attention_ref.plot.drawing.legend import handles, put_legend
from attention_ref.plot.drawing.look import Annotation, Look, Reduction, RowCheck, TickLabels
from attention_ref.plot.drawing.matrix import axes_and_grid, draw_matrix
from attention_ref.plot.drawing.row_sums import check_rows as check_row_sums

ALLOWED = "#2b6cb0"  # a blue of neither colormap's ends: a mask has no scale


def heatmap(
    alpha: npt.ArrayLike,
    *,
    query_labels: Sequence[str] | None = None,
    key_labels: Sequence[str] | None = None,
    allowed: npt.ArrayLike | None = None,
    ax: Axes | None = None,
    title: str | None = None,
    cmap: str | Colormap = colors.SEQUENTIAL,
    norm: Normalize | None = None,
    vmin: float | None = 0,
    vmax: float | None = 1,
    annot: Annotation = "auto",
    fmt: str = ".2f",
    cbar: bool = True,
    square: bool = True,
    xticklabels: TickLabels = "auto",
    yticklabels: TickLabels = "auto",
    max_cells: int = 512,
    reduce: Reduction = "max",
    check_rows: RowCheck = "warn",
    legend: bool = True,
    cbar_label: str = "weight α",
) -> Axes:
    """The weights of one head, (query, key). Masked cells, zeros, NaN and empty rows look different.

    The scale is 0 to 1 unless `vmin`, `vmax` (None: from the data) or `norm` say otherwise. A matrix with more than
    `max_cells` cells on an axis is drawn in blocks, each as one cell; `reduce` says which value of a block it shows,
    and a note on the plot says so too. `annot` writes numbers into the cells: where they fit ("auto"), always, never,
    in the cells where a boolean array is true, or the texts of an array.

    >>> import numpy as np
    >>> import attention_ref as ar
    >>> a = ar.attention(*np.random.default_rng(0).standard_normal((3, 4, 8)), causal=True)
    >>> words = ["the", "cat", "sat", "down"]
    >>> ax = ar.plot.heatmap(a.alpha, allowed=a.tape["allowed"], query_labels=words, key_labels=words)
    >>> ax.get_xlabel(), [label.get_text() for label in ax.get_yticklabels()]
    ('key (j)', ['the', 'cat', 'sat', 'down'])

    Args:
        alpha: the weights
        query_labels, key_labels: words for the rows and the columns
        allowed: a boolean array, True = may attend; masked cells are hatched
        ax: the axes to draw on; None: a new figure
        title: the title of the axes
        cmap, norm, vmin, vmax: the colors and their scale
        annot, fmt: the numbers in the cells and their format
        cbar, cbar_label, legend: whether there are a colorbar and a legend, and the colorbar's label
        square, xticklabels, yticklabels: whether cells are squares; tick labels as in seaborn
        max_cells, reduce: the most cells on an axis, and what a block shows: its "max", "mean", …
        check_rows: what to do about rows that do not sum to 1: "warn", "raise", "ignore"
    """
    look = Look(
        cmap=cmap,
        norm=norm,
        vmin=vmin,
        vmax=vmax,
        annot=annot,
        fmt=fmt,
        cbar=cbar,
        cbar_label=cbar_label,
        legend=legend,
        square=square,
        xticklabels=xticklabels,
        yticklabels=yticklabels,
        max_cells=max_cells,
        reduce=reduce,
        check_rows=check_rows,
        title=title,
    )
    return draw_weights("heatmap", alpha, query_labels, key_labels, allowed, ax, look)


def draw_weights(
    owner: str, alpha: Any, query_labels: Any, key_labels: Any, allowed: Any, ax: Axes | None, look: Look
) -> Axes:
    """The heatmap of weights, for `owner`, whose name the errors and warnings begin with."""
    values = checks.numbers(owner, alpha, ("query", "key"))
    labels = checked_labels(owner, values.shape, query_labels, key_labels)
    ax, grid = axes_and_grid(owner, ax, values, "weights", allowed, look)
    wrong = check_row_sums(owner, {"": grid}, values.dtype, look.check_rows)
    norm = colors.scale(owner, look.norm, look.vmin, look.vmax, [grid])
    draw_matrix(owner, ax, grid, norm, labels, look, [wrong])
    return set_alt_text(ax, describe_grid(grid, labels, title=look.title or "", dtype=values.dtype))


def gradient(
    ds: npt.ArrayLike,
    *,
    query_labels: Sequence[str] | None = None,
    key_labels: Sequence[str] | None = None,
    allowed: npt.ArrayLike | None = None,
    ax: Axes | None = None,
    title: str | None = None,
    vmax: float | None = None,
    annot: Annotation = False,
    fmt: str = ".2g",
    cbar: bool = True,
    square: bool = True,
    xticklabels: TickLabels = "auto",
    yticklabels: TickLabels = "auto",
    max_cells: int = 512,
    reduce: Reduction = "extreme",
    legend: bool = True,
    cbar_label: str = "gradient",
) -> Axes:
    """A gradient of one head, (query, key), on a scale with 0 in its middle, from -vmax to vmax."""
    look = Look(
        cmap=colors.SIGNED,
        annot=annot,
        fmt=fmt,
        cbar=cbar,
        cbar_label=cbar_label,
        legend=legend,
        square=square,
        xticklabels=xticklabels,
        yticklabels=yticklabels,
        max_cells=max_cells,
        reduce=reduce,
        title=title,
    )
    values = checks.numbers("gradient", ds, ("query", "key"), "ds")
    labels = checked_labels("gradient", values.shape, query_labels, key_labels)
    ax, grid = axes_and_grid("gradient", ax, values, "gradient", allowed, look)
    draw_matrix("gradient", ax, grid, colors.zero_centered("gradient", [grid], vmax), labels, look)
    return set_alt_text(ax, describe_grid(grid, labels, title=title or "gradient"))


def mask(
    allowed: npt.ArrayLike,
    *,
    query_labels: Sequence[str] | None = None,
    key_labels: Sequence[str] | None = None,
    ax: Axes | None = None,
    title: str | None = None,
    square: bool = True,
    xticklabels: TickLabels = "auto",
    yticklabels: TickLabels = "auto",
    max_cells: int = 512,
    legend: bool = True,
) -> Axes:
    """What may be attended, (query, key): allowed cells solid, masked ones hatched, empty rows hatched otherwise."""
    if hasattr(allowed, "dense"):
        raise OptionError("mask: allowed is a mask without sizes; give allowed.dense(queries, keys)")
    array = checks.as_array("mask", "allowed", allowed)
    if array.ndim != 2 or 0 in array.shape:
        raise ShapeError(f"mask: allowed must be (query, key), not empty; got shape {array.shape}")
    array = checks.boolean("mask", allowed, array.shape)
    labels = checked_labels("mask", array.shape, query_labels, key_labels)
    look = Look(
        cmap=ListedColormap([ALLOWED]),
        annot=False,
        cbar=False,
        legend=False,
        square=square,
        xticklabels=xticklabels,
        yticklabels=yticklabels,
        max_cells=max_cells,
        title=title,
    )
    ax, grid = axes_and_grid("mask", ax, array.astype(np.float32), "plain", array, look)
    allowed_percent = f"{array.mean():.1%} allowed"
    draw_matrix("mask", ax, grid, Normalize(0, 1), labels, look, [allowed_percent])
    if legend:
        solid = Patch(facecolor=ALLOWED, label="allowed (may attend)")
        put_legend(ax, [solid, *handles([grid], None, None)])
    rows, columns = array.shape
    empty = int((~array.any(axis=1)).sum())
    sizes = f"{rows} queries by {columns} keys"
    return set_alt_text(ax, f"{title or 'mask'}: {sizes}, {allowed_percent}, {empty} empty rows.")
