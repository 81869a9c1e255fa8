"""One query's weights as bars."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from attention_ref.plot.describe import checked_labels, name_with_label
from attention_ref.plot.drawing import checks
from attention_ref.plot.drawing.cells import cells_that_fit
from attention_ref.plot.drawing.figures import own_axes, set_alt_text
from attention_ref.plot.drawing.labels import Labels, label_axis, make_literal
from attention_ref.plot.drawing.legend import LOOKS, put_legend
from attention_ref.plot.drawing.look import RowCheck, TickLabels
from attention_ref.plot.drawing.reduction import make_grid
from attention_ref.plot.drawing.row_sums import check_rows as check_row_sums
from attention_ref.plot.drawing.states import COLORED, LEAK, NAMES

BAR = "#2b6cb0"  # a blue with contrast 5 on white
MANY_KEYS = 200  # from here on the gap between two bars would be less than a pixel, so there is none


def rows(
    alpha: npt.ArrayLike,
    index: int,
    *,
    query_labels: Sequence[str] | None = None,
    key_labels: Sequence[str] | None = None,
    allowed: npt.ArrayLike | None = None,
    ax: Axes | None = None,
    title: str | None = None,
    xticklabels: TickLabels = "auto",
    check_rows: RowCheck = "warn",
    legend: bool = True,
) -> Axes:
    """One query's weights, a bar for each key, from 0 to 1; masked keys, NaN and an empty row are hatched."""
    values = checks.numbers("rows", alpha, ("query", "key"))
    index = checks.index("rows", "index", index, len(values), "queries")
    keys = values.shape[1]
    labels = checked_labels("rows", values.shape, query_labels, key_labels)
    masks = checks.boolean("rows", allowed, values.shape)
    ax = own_axes("rows", ax, (4, keys), square=False)  # as high as a matrix of four queries
    limits = cells_that_fit(ax, (1, keys), square=False, max_cells=keys)
    query = slice(index, index + 1)
    grid = make_grid(values[query], None if masks is None else masks[query], limits=limits)
    wrong = check_row_sums("rows", {f"query {index}": grid}, values.dtype, check_rows)
    state, block = grid.states[0], grid.block[1]
    colored = np.flatnonzero(np.isin(state, COLORED))
    width = block if block > 1 or keys >= MANY_KEYS else 0.8
    ax.bar(colored * block + (block - 1) / 2, grid.values[0, colored], width=width, color=BAR, linewidth=0)
    patches = mark_states(ax, state, block)
    reduced = f"each bar: the largest of {block} keys" if block > 1 else ""
    ax.set_xlim(-0.5, keys - 0.5)
    ax.set_ylim(0, 1)
    sentence = "no weights"
    if grid.peak:
        # weights outside 0 to 1 are wrong, and must be seen: a twentieth more than they need
        ax.set_ylim(min(0.0, 1.05 * grid.low), max(1.0, 1.05 * grid.peak.value))
        strongest = name_with_label("key", labels[1], grid.peak.column)
        sentence = f"the largest weight is {grid.peak.value:.3g} on {strongest}"
    label_axis("rows", ax.xaxis, labels[1], keys, xticklabels)
    ax.set(xlabel="\n".join(note for note in ("key (j)", reduced, wrong) if note), ylabel="weight α")
    name_query(ax, index, labels[0], title)
    if legend:
        put_legend(ax, patches)
    return set_alt_text(ax, f"Weights of {name_with_label('query', labels[0], index)} over {keys} keys: {sentence}.")


def mark_states(ax: Axes, state: np.ndarray, block: int = 1) -> list[Patch]:
    """Hatch the columns of keys that have no bar, or a leak; the patches for the legend."""
    patches = []
    for kind, look in LOOKS.items():
        columns = np.flatnonzero(state == kind)
        if columns.size:
            breaks = np.flatnonzero(np.diff(columns) > 1) + 1
            zorder = 1.5 if kind == LEAK else 0.5  # a leak has a bar, which must not hide the hatch
            for run in np.split(columns, breaks):
                left, right = run[0] * block - 0.5, (run[-1] + 1) * block - 0.5
                ax.axvspan(left, right, linewidth=0, zorder=zorder, **look)
            patches.append(Patch(label=NAMES[kind], linewidth=0.5, **look))
    return patches


def name_query(ax: Axes, index: int, query_labels: Any, title: str | None) -> None:
    if title is not None:
        ax.set_title(title)
        return
    if query_labels is None:
        ax.set_title(f"query {index}")
        return
    labels = Labels("rows", query_labels, len(query_labels))
    make_literal(ax.set_title(f"query {index}: {labels[index]}"), labels.fonts)
