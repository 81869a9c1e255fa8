"""One matrix as a heatmap: the weights, a gradient, what is allowed."""

import numpy as np
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.patches import Patch

from attention_ref.errors import OptionError
from attention_ref.plot.describe import describe_grid, named
from attention_ref.plot.drawing import checks, colors
from attention_ref.plot.drawing.cells import add_colorbar, annotate, draw_cells, name_axes, room
from attention_ref.plot.drawing.figures import own_axes, tell
from attention_ref.plot.drawing.labels import label_axes
from attention_ref.plot.drawing.legend import handles, put_legend
from attention_ref.plot.drawing.reduction import REDUCTIONS, make_grid
from attention_ref.plot.drawing.row_sums import check_rows as check_row_sums

ALLOWED = "#2b6cb0"


def heatmap(
    alpha, *, query_labels=None, key_labels=None, allowed=None, ax=None, title=None, cmap=colors.SEQUENTIAL, norm=None,
    vmin=0, vmax=1, annot="auto", fmt=".2f", cbar=True, square=True, xticklabels="auto", yticklabels="auto",
    max_cells=512, reduce="max", check_rows="warn", legend=True, cbar_label="weight α",
):  # fmt: skip
    """The weights of one head, (query, key). Masked, near 0, NaN and dead rows look different.

    The scale is 0 to 1 unless `vmin`, `vmax` (None: from the data) or `norm` say otherwise. More than `max_cells`
    cells on an axis are reduced by block, `reduce` saying how; the plot says so. `annot` writes the numbers: where they
    fit ("auto"), always, never, in the cells where a boolean array is true, or the texts of an array.

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
        allowed: a boolean array, True = may attend; what is masked is hatched
        ax: the axes to draw on; None: a new figure
        title: what stands above
        cmap, norm, vmin, vmax: the colors and their scale
        annot, fmt: the numbers in the cells and their format
        cbar, cbar_label, legend: what stands beside
        square, xticklabels, yticklabels: the look of the axes
        max_cells, reduce: from how many cells on, and how, blocks become cells: "max", "mean", …
        check_rows: what to do about rows that do not sum to 1: "warn", "raise", "ignore"
    """
    values = checks.numbers("heatmap", alpha, ("query", "key"))
    labels = named("heatmap", values.shape, query_labels, key_labels)
    ax = own_axes("heatmap", ax, values.shape, square)
    grid = matrix_grid("heatmap", ax, values, allowed, "weights", square, max_cells, reduce)
    wrong = check_row_sums("heatmap", {"": grid}, values.dtype, check_rows)
    cmap, norm = colors.colormap("heatmap", cmap), colors.scale("heatmap", norm, vmin, vmax, [grid])
    image = draw_cells(ax, grid, cmap, norm, square)
    annotate("heatmap", ax, grid, cmap, norm, annot, fmt)
    finish("heatmap", ax, grid, labels, (xticklabels, yticklabels), title, [wrong])
    if cbar:
        add_colorbar(ax, image, norm, [grid], cbar_label)
    if legend:
        put_legend(ax, handles([grid], cmap, norm))
    return tell(ax, describe_grid(grid, labels, title=title or "", dtype=values.dtype))


def gradient(
    ds, *, query_labels=None, key_labels=None, allowed=None, ax=None, title=None, vmax=None, annot=False, fmt=".2g",
    cbar=True, square=True, xticklabels="auto", yticklabels="auto", max_cells=512, reduce="extreme", legend=True,
    cbar_label="gradient",
):  # fmt: skip
    """A gradient of one head, (query, key), on a scale with 0 in its middle, from -vmax to vmax."""
    values = checks.numbers("gradient", ds, ("query", "key"), "ds")
    labels = named("gradient", values.shape, query_labels, key_labels)
    ax = own_axes("gradient", ax, values.shape, square)
    grid = matrix_grid("gradient", ax, values, allowed, "gradient", square, max_cells, reduce)
    norm = colors.zero_centered("gradient", [grid], vmax)
    image = draw_cells(ax, grid, colors.SIGNED, norm, square)
    annotate("gradient", ax, grid, colors.SIGNED, norm, annot, fmt)
    finish("gradient", ax, grid, labels, (xticklabels, yticklabels), title)
    if cbar:
        add_colorbar(ax, image, norm, [grid], cbar_label)
    if legend:
        put_legend(ax, handles([grid], colors.SIGNED, norm))
    return tell(ax, describe_grid(grid, labels, title=title or "gradient"))


def mask(
    allowed, *, query_labels=None, key_labels=None, ax=None, title=None, square=True, xticklabels="auto",
    yticklabels="auto", max_cells=512, legend=True,
):  # fmt: skip
    """What may be attended, (query, key): allowed cells solid, masked ones hatched, dead rows told apart."""
    if hasattr(allowed, "dense"):
        raise OptionError("mask: allowed is a mask without sizes; give allowed.dense(queries, keys)")
    shut = checks.as_array("mask", "allowed", allowed)
    if shut.ndim != 2 or 0 in shut.shape:
        raise checks.ShapeError(f"mask: allowed must be (query, key), not empty; got shape {shut.shape}")
    shut = checks.boolean("mask", allowed, shut.shape)
    labels = named("mask", shut.shape, query_labels, key_labels)
    ax = own_axes("mask", ax, shut.shape, square)
    grid = make_grid(shut.astype(np.float32), shut, kind="plain", limits=room(ax, shut.shape, square, max_cells))
    draw_cells(ax, grid, ListedColormap([ALLOWED]), Normalize(0, 1), square)
    share = f"{shut.mean():.1%} allowed"
    finish("mask", ax, grid, labels, (xticklabels, yticklabels), title, [share])
    if legend:
        patches = [Patch(facecolor=ALLOWED, label="allowed (may attend)")]
        put_legend(ax, patches + handles([grid], None, None))
    rows, columns = shut.shape
    dead = int((~shut.any(axis=1)).sum())
    return tell(ax, f"{title or 'mask'}: {rows} queries by {columns} keys, {share}, {dead} dead rows.")


def matrix_grid(owner, ax, values, allowed, kind, square, max_cells, reduce):
    allowed = checks.boolean(owner, allowed, values.shape)
    checks.choice(owner, "reduce", reduce, REDUCTIONS)
    limits = room(ax, values.shape, square, checks.positive(owner, "max_cells", max_cells))
    return make_grid(values, allowed, kind=kind, limits=limits, how=reduce)


def finish(owner, ax, grid, labels, ticks, title, notes=()):
    """Labels, names and title."""
    label_axes(owner, ax, labels, grid.shape, ticks)
    name_axes(ax, [grid.note, *notes])
    if title is not None:
        ax.set_title(title)
