"""One query's weights as bars."""

import numpy as np
from matplotlib.patches import Patch

from attention_ref.plot.describe import named, who
from attention_ref.plot.drawing import checks
from attention_ref.plot.drawing.cells import room
from attention_ref.plot.drawing.figures import own_axes, tell
from attention_ref.plot.drawing.labels import Labels, label_axis, literal
from attention_ref.plot.drawing.legend import LOOKS, put_legend
from attention_ref.plot.drawing.reduction import make_grid
from attention_ref.plot.drawing.row_sums import check_rows as check_row_sums
from attention_ref.plot.drawing.states import LEAK, NAMES, SEEN

BAR = "#2b6cb0"


def rows(
    alpha, index, *, query_labels=None, key_labels=None, allowed=None, ax=None, title=None, xticklabels="auto",
    check_rows="warn", legend=True,
):  # fmt: skip
    """One query's weights, a bar for each key, from 0 to 1; masked keys are hatched, NaN and dead rows told apart."""
    values = checks.numbers("rows", alpha, ("query", "key"))
    index = checks.index("rows", "index", index, len(values), "queries")
    labels = named("rows", values.shape, query_labels, key_labels)
    allowed = checks.boolean("rows", allowed, values.shape)
    one = slice(index, index + 1)
    ax = own_axes("rows", ax, (4, values.shape[1]), square=False)
    limits = room(ax, (1, values.shape[1]), square=False, max_cells=values.shape[1])
    grid = make_grid(values[one], None if allowed is None else allowed[one], limits=limits)
    wrong = check_row_sums("rows", {f"query {index}": grid}, values.dtype, check_rows)
    state, block = grid.states[0], grid.block[1]
    drawn = np.flatnonzero(np.isin(state, (SEEN, LEAK)))
    width = block if block > 1 or values.shape[1] >= 200 else 0.8
    ax.bar(drawn * block + (block - 1) / 2, grid.values[0, drawn], width=width, color=BAR, linewidth=0)
    patches = mark_states(ax, state, block)
    reduced = f"each bar: the largest of {block} keys" if block > 1 else ""
    top = grid.peak[0] if grid.peak else 0.0
    ax.set_xlim(-0.5, values.shape[1] - 0.5)
    ax.set_ylim(min(0.0, 1.05 * grid.low) if np.isfinite(grid.low) else 0.0, max(1.0, 1.05 * top))
    label_axis("rows", ax.xaxis, labels[1], values.shape[1], xticklabels)
    ax.set(xlabel="\n".join(filter(None, ["key (j)", reduced, wrong])), ylabel="weight α")
    name_query(ax, index, labels[0], title)
    if legend:
        put_legend(ax, patches)
    most = f"the largest weight is {top:.3g} on {who('key', labels[1], -grid.peak[2])}" if grid.peak else "no weights"
    return tell(ax, f"Weights of {who('query', labels[0], index)} over {values.shape[1]} keys: {most}.")


def mark_states(ax, state, block=1):
    """Hatch the columns of keys that are masked, dead, NaN or leaking; the patches for the legend."""
    patches = []
    for kind, look in LOOKS.items():
        columns = np.flatnonzero(state == kind)
        if columns.size:
            breaks = np.flatnonzero(np.diff(columns) > 1) + 1
            for run in np.split(columns, breaks):
                ax.axvspan(
                    run[0] * block - 0.5,
                    (run[-1] + 1) * block - 0.5,
                    linewidth=0,
                    zorder=0.5 if kind != LEAK else 1.5,
                    **look,
                )
            patches.append(Patch(label=NAMES[kind], linewidth=0.5, **look))
    return patches


def name_query(ax, index, query_labels, title):
    if title is not None:
        ax.set_title(title)
        return
    text = f"query {index}"
    labels = Labels("rows", query_labels, index + 1 if query_labels is None else len(query_labels))
    if labels.tokens:
        text += f": {labels[index]}"
    literal(ax.set_title(text), labels.fonts)
