"""Attention between tokens: a translation's alignment, and lines from token to token."""

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize

from attention_ref.errors import OptionError
from attention_ref.plot.describe import named, strongest
from attention_ref.plot.drawing import checks, colors
from attention_ref.plot.drawing.figures import Picture, own_axes, tell
from attention_ref.plot.drawing.labels import STEPS, Labels, literal
from attention_ref.plot.drawing.reduction import make_grid
from attention_ref.plot.drawing.row_sums import check_rows as check_row_sums
from attention_ref.plot.drawing.states import DEAD, NAMES, NAN
from attention_ref.plot.heatmap import heatmap


def alignment(alpha, source, target, *, ax=None, **options):
    """The weights of a translation: a row for each target token, a column for each source token, read from the top.

    Options are `heatmap`'s.
    """
    values = checks.numbers("alignment", alpha, ("target", "source"))
    target = checks.labels("alignment", "target", target, values.shape[0], "rows (target tokens)")
    source = checks.labels("alignment", "source", source, values.shape[1], "columns (source tokens)")
    ax = heatmap(values, query_labels=target, key_labels=source, ax=ax, **options)
    ax.xaxis.set_ticks_position("top")
    ax.xaxis.set_label_position("top")
    key, *notes = ax.get_xlabel().split("\n")
    ax.set_xlabel("\n".join([*notes, f"source, {key}"]))
    ax.set_ylabel("target, query (i)")
    return ax


def arcs(
    tokens, alpha, *, key_tokens=None, allowed=None, least=0.05, query=None, ax=None, title=None, cmap="cividis_r",
    cbar=True, check_rows="warn",
):  # fmt: skip
    """Lines from every query on the left to the keys on the right, the wider and darker the larger the weight.

    Weights below `least` are left out, and how much that is stands below. `query` draws the lines of one only.
    """
    values = checks.numbers("arcs", alpha, ("query", "key"))
    queries, keys = named("arcs", values.shape, tokens, tokens if key_tokens is None else key_tokens)
    if not 0 <= least <= 1:
        raise OptionError(f"arcs: least={least} must lie between 0 and 1")
    allowed = checks.boolean("arcs", allowed, values.shape)
    grid = make_grid(values, allowed, limits=values.shape)
    wrong = check_row_sums("arcs", {"": grid}, values.dtype, check_rows)
    weights = grid.shown.filled(0)
    if query is not None:
        query = checks.index("arcs", "query", query, len(values), "queries")
        weights = np.where(np.arange(len(values))[:, None] == query, weights, 0)
    ax = own_lines_axes(ax, values.shape)
    cmap, norm = colors.colormap("arcs", cmap), Normalize(0, 1)
    drawn = sorted(((weights[i, j], i, j) for i, j in np.argwhere(weights >= max(least, 1e-300))))
    lines = [[(0, spot(i, values.shape[0])), (1, spot(j, values.shape[1]))] for _, i, j in drawn]
    strength = np.array([w for w, _, _ in drawn])
    ax.add_collection(LineCollection(lines, array=strength, cmap=cmap, norm=norm, linewidths=0.4 + 3.6 * strength))
    write_column(ax, queries, values.shape[0], -0.03, "right")
    write_column(ax, keys, values.shape[1], 1.03, "left")
    notes = [left_out(weights, drawn, least), without_lines(grid), wrong]
    dress(ax, title, "\n".join(filter(None, notes)))
    if cbar:
        bar = ax.figure.colorbar(ScalarMappable(norm, cmap), ax=ax, shrink=0.6, aspect=25)
        bar.set_label("weight α", fontsize="small")
        bar.ax.tick_params(labelsize="small")
    tops = strongest(make_grid(weights, kind="plain", limits=values.shape), (queries, keys), 1)
    most = [f"{one} to {key} ({weight:.2f})" for one, [(key, weight)] in tops if weight > 0][:24]
    between = f"{values.shape[0]} queries and {values.shape[1]} keys"
    return tell(ax, f"Lines between {between}; the strongest: {'; '.join(most)}.")


def own_lines_axes(ax, shape):
    if ax is None:
        return Picture(figsize=(5.2, min(12, 1.3 + 0.28 * max(shape))), layout="constrained").subplots()
    return own_axes("arcs", ax, shape)


def spot(index, count):
    """The height of a token, its column filling 0 to 1 from the top."""
    return 1 - (index + 0.5) / count


def write_column(ax, texts, count, x, side):
    labels = Labels("arcs", texts, count)
    room = ax.get_window_extent().height / ax.figure.dpi * 72 / count
    size = float(np.clip(room / 1.4, 4, 9))
    step = next(step for step in STEPS if step * room >= 1.3 * size)
    for at in range(0, count, step):
        text = ax.text(x, spot(at, count), labels[at], ha=side, va="center", fontsize=size, transform=ax.transAxes)
        literal(text, labels.fonts)


def without_lines(grid):
    odd = [f"{grid.counts[state]} weights: {NAMES[state]}" for state in (DEAD, NAN) if grid.counts[state]]
    return f"no lines for {', '.join(odd)}" if odd else ""


def left_out(weights, drawn, least):
    total = weights.sum()
    share = 1 - sum(w for w, _, _ in drawn) / total if total else 0
    return f"lines: weights of {least:g} or more; those left out hold {max(share, 0):.0%}"


def dress(ax, title, note):
    ax.set(xlim=(0, 1), ylim=(0, 1), yticks=[], title=title, xlabel=note)
    ax.set_xticks([0, 1], ["query (i)", "key (j)"])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
