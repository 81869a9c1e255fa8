"""Attention between tokens: a translation's alignment, and lines from token to token."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, Normalize

from attention_ref.errors import OptionError
from attention_ref.plot.describe import checked_labels, strongest_keys
from attention_ref.plot.drawing import checks, colors
from attention_ref.plot.drawing.figures import Picture, own_axes, set_alt_text
from attention_ref.plot.drawing.labels import LINE, STEPS, Labels, make_literal
from attention_ref.plot.drawing.look import RowCheck, TitledOptions, make_look
from attention_ref.plot.drawing.reduction import Grid, make_grid
from attention_ref.plot.drawing.row_sums import check_rows as check_row_sums
from attention_ref.plot.drawing.states import EMPTY, NAMES, NAN
from attention_ref.plot.heatmap import draw_weights

if TYPE_CHECKING:
    from typing_extensions import Unpack

MOST_NAMED = 24  # lines in the description: about a minute of a screen reader's time


def alignment(
    alpha: npt.ArrayLike,
    source: Sequence[str],
    target: Sequence[str],
    *,
    ax: Axes | None = None,
    **options: "Unpack[TitledOptions]",
) -> Axes:
    """The weights of a translation: a row for each target token, a column for each source token, read from the top.

    Options are `heatmap`'s.
    """
    values = checks.numbers("alignment", alpha, ("target", "source"))
    rows = checks.labels("alignment", "target", target, values.shape[0], "rows (target tokens)")
    columns = checks.labels("alignment", "source", source, values.shape[1], "columns (source tokens)")
    allowed = options.pop("allowed", None)
    axes = {"query_axis": "target, query (i)", "key_axis": "source, key (j)", "keys_on_top": True}
    look = make_look("alignment", options, TitledOptions, **axes)
    return draw_weights("alignment", values, rows, columns, allowed, ax, look)


def arcs(
    tokens: Sequence[str],
    alpha: npt.ArrayLike,
    *,
    key_tokens: Sequence[str] | None = None,
    allowed: npt.ArrayLike | None = None,
    least: float = 0.05,
    query: int | None = None,
    ax: Axes | None = None,
    title: str | None = None,
    cmap: str | Colormap = "cividis_r",
    cbar: bool = True,
    check_rows: RowCheck = "warn",
) -> Axes:
    """Lines from every query on the left to the keys on the right, the wider and darker the larger the weight.

    Weights below `least` are left out, and a note says how much of all attention they are. `query` draws the lines of
    one query only.
    """
    values = checks.numbers("arcs", alpha, ("query", "key"))
    labels = checked_labels("arcs", values.shape, tokens, tokens if key_tokens is None else key_tokens)
    if not 0 <= least <= 1:
        raise OptionError(f"arcs: least={least} must lie between 0 and 1")
    masks = checks.boolean("arcs", allowed, values.shape)
    grid = make_grid(values, masks, limits=values.shape)
    wrong = check_row_sums("arcs", {"": grid}, values.dtype, check_rows)
    weights = grid.colored.filled(0)
    if query is not None:
        query = checks.index("arcs", "query", query, len(values), "queries")
        weights = np.where(np.arange(len(values))[:, None] == query, weights, 0)
    ax = own_lines_axes(ax, values.shape)
    colormap, norm = colors.colormap("arcs", cmap), Normalize(0, 1)
    # a weight of 0 has no line even where least is 0; the strongest are drawn last, over the others
    lines = sorted((weights[i, j], i, j) for i, j in np.argwhere((weights >= least) & (weights > 0)))
    draw_lines(ax, lines, values.shape, colormap, norm)
    write_column(ax, labels[0], values.shape[0], -0.03, "right")
    write_column(ax, labels[1], values.shape[1], 1.03, "left")
    notes = [left_out(weights, lines, least), without_lines(grid), wrong]
    ax.set(xlim=(0, 1), ylim=(0, 1), yticks=[], title=title, xlabel="\n".join(note for note in notes if note))
    ax.set_xticks([0, 1], ["query (i)", "key (j)"])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if cbar:
        bar = ax.figure.colorbar(ScalarMappable(norm, colormap), ax=ax, shrink=0.6, aspect=25)
        bar.set_label("weight α", fontsize="small")
        bar.ax.tick_params(labelsize="small")
    return set_alt_text(ax, describe_lines(weights, labels))


def own_lines_axes(ax: Axes | None, shape: Sequence[int]) -> Axes:
    """The caller's axes, or new ones: 0.28 inches for a token, as much as two lines of text, and 12 at most."""
    if ax is None:
        return Picture(figsize=(5.2, min(12, 1.3 + 0.28 * max(shape))), layout="constrained").subplots()
    return own_axes("arcs", ax, shape)


def draw_lines(ax: Axes, lines: list, shape: Sequence[int], cmap: Colormap, norm: Normalize) -> None:
    """Draw (weight, query, key); 0.4 points are still seen, and 4 hide no neighbor's line."""
    segments = [[(0, height(i, shape[0])), (1, height(j, shape[1]))] for _, i, j in lines]
    weights = np.array([weight for weight, _, _ in lines])
    ax.add_collection(LineCollection(segments, array=weights, cmap=cmap, norm=norm, linewidths=0.4 + 3.6 * weights))


def height(index: int, count: int) -> float:
    """The height of a token, its column filling 0 to 1 from the top."""
    return 1 - (index + 0.5) / count


def write_column(ax: Axes, texts: Any, count: int, x: float, side: str) -> None:
    """Write the tokens of one side, in type of 4 to 9 points; every second, fifth, … where even 4 do not fit."""
    labels = Labels("arcs", texts, count)
    points = ax.get_window_extent().height / ax.figure.dpi * 72 / count  # from one token to the next
    size = float(np.clip(points / LINE, 4, 9))
    step = next(step for step in STEPS if step * points >= 1.3 * size)
    for index in range(0, count, step):
        at = (x, height(index, count))
        text = ax.text(*at, labels[index], ha=side, va="center", fontsize=size, transform=ax.transAxes)
        make_literal(text, labels.fonts)


def without_lines(grid: Grid) -> str:
    counts = [f"{grid.counts[state]} weights: {NAMES[state]}" for state in (EMPTY, NAN) if grid.counts[state]]
    return f"no lines for {', '.join(counts)}" if counts else ""


def left_out(weights: np.ndarray, lines: list, least: float) -> str:
    total = weights.sum()
    missing = 1 - sum(weight for weight, _, _ in lines) / total if total else 0
    return f"lines: weights of {least:g} or more; those left out hold {max(missing, 0):.0%}"


def describe_lines(weights: np.ndarray, labels: Any) -> str:
    queries, keys = weights.shape
    grid = make_grid(weights, kind="plain", limits=weights.shape)
    strongest = []
    for query, [(key, weight)] in strongest_keys(grid, labels, 1):
        if weight > 0:
            strongest.append(f"{query} to {key} ({weight:.2f})")
    return f"Lines between {queries} queries and {keys} keys; the strongest: {'; '.join(strongest[:MOST_NAMED])}."
