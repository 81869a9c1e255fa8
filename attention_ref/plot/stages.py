"""The stages of one attention side by side: forward from scores to weights, backward from weights to scores."""

import numpy as np
from matplotlib.gridspec import GridSpec

from attention_ref.errors import OptionError, ShapeError
from attention_ref.pipeline.recorder import Reverse
from attention_ref.plot.describe import checked_labels, describe_grid
from attention_ref.plot.drawing import checks, colors
from attention_ref.plot.drawing.cells import add_colorbar, cells_that_fit, draw_cells
from attention_ref.plot.drawing.figures import own_figure, set_alt_text
from attention_ref.plot.drawing.labels import label_axes
from attention_ref.plot.drawing.legend import handles, put_legend
from attention_ref.plot.drawing.reduction import make_grid
from attention_ref.plot.heatmap import gradient, heatmap, mask
from attention_ref.plot.rows import rows

SCORES = {"score": "score", "scaled": "× scale", "capped": "softcap", "biased": "+ bias", "masked": "only the allowed"}
WEIGHTS = {"alpha": "α", "dropped": "α after dropout"}
SIDE = 3.0


def pipeline(
    tape, *, index=None, row=0, query_labels=None, key_labels=None, figure=None, max_cells=512, check_rows="warn"
):
    """Every stage of the tape of `ar.attention` that was applied, for one head, and one query's weights as bars.

    Scores share one scale with 0 in its middle. `index` says which head, with an index for every leading axis longer
    than one.
    """
    tape = as_tape("pipeline", tape)
    panels = {name: one_head("pipeline", tape[name], index) for name in (*SCORES, *WEIGHTS) if name in tape}
    scores = [name for name in panels if name in SCORES]
    alpha = panels["alpha"]
    allowed = allowed_in(tape, alpha, index)
    labels = checked_labels("pipeline", alpha.shape, query_labels, key_labels)
    row = checks.index("pipeline", "row", row, len(alpha), "queries")
    axes, figure = row_of_axes("pipeline", figure, len(panels) + (allowed is not None) + 1, alpha.shape)
    order = [name for name in scores if name != "masked"] + ["allowed", "masked"] * (allowed is not None)
    place = dict(zip(order, axes, strict=False))
    free = iter(axes[len(order) :])
    draw_scores([(name, place[name]) for name in scores], [panels[name] for name in scores], labels, max_cells)
    wide = {"query_labels": labels[0], "key_labels": labels[1], "max_cells": max_cells}
    if allowed is not None:
        mask(allowed, ax=place["allowed"], title="allowed", **wide)
    top = {"alpha": 1.0, "dropped": max(1.0, float(np.nanmax(panels.get("dropped", 0), initial=0)))}
    for name in WEIGHTS:
        if name in panels:
            heatmap(
                panels[name], ax=next(free), title=WEIGHTS[name], allowed=allowed, vmax=top[name], annot=False,
                check_rows=check_rows if name == "alpha" else "ignore", **wide,
            )  # fmt: skip
    wide.pop("max_cells")
    rows(alpha, row, ax=next(free), allowed=allowed, check_rows="ignore", **wide)
    return figure, axes


def backward(
    tape,
    do=None,
    *,
    dalpha=None,
    index=None,
    query_labels=None,
    key_labels=None,
    figure=None,
    max_cells=512,
    check_rows="warn",
):
    """α, its gradient dα and the scores' gradient ds, for one head, from what `ar.attention` returned.

    The cotangents are of the output, `do`, or of α itself, `dalpha`, or both, as `Attended.backward` takes them.
    """
    if do is None and dalpha is None:
        raise OptionError("backward: give do, the gradient of the output, or dalpha, the gradient of the weights")
    recorder = recorder_of(tape)
    tape = as_tape("backward", tape)
    dalpha, ds = pull(recorder, tape["alpha"], do, dalpha)
    panels = [one_head("backward", array, index) for array in (tape["alpha"], dalpha, ds)]
    allowed = allowed_in(tape, panels[0], index)
    axes, figure = row_of_axes("backward", figure, 3, panels[0].shape)
    wide = {"query_labels": query_labels, "key_labels": key_labels, "max_cells": max_cells, "allowed": allowed}
    heatmap(panels[0], ax=axes[0], title="α", annot=False, check_rows=check_rows, **wide)
    gradient(panels[1], ax=axes[1], title="dα", cbar_label="gradient", **wide)
    gradient(panels[2], ax=axes[2], title="ds", cbar_label="gradient", **wide)
    return figure, axes


def recorder_of(attended):
    """What `ar.attention` kept for backward."""
    recorder = getattr(attended, "_tape", {}).get("recorder")
    if recorder is None:
        raise OptionError("backward: give what ar.attention returned without tile=; its gradients are found from it")
    return recorder


def pull(recorder, alpha, do, dalpha):
    """(dα, ds): from the output back through the stages after the weights, then through the normalizer."""
    back = Reverse(recorder)
    total = np.zeros_like(alpha) if dalpha is None else cotangent("dalpha", dalpha, alpha.shape)
    if do is not None:
        do = cotangent("do", do, recorder.shown["o"].shape)
        total = total + back.undo("dropped", back.undo("o", do))
    flowing = back.undo("filled", total)
    ds = back.undo("alpha", (flowing, None) if "lse" in recorder.shown else flowing)
    return total, ds


def cotangent(name, value, shape=None):
    value = checks.real("backward", name, value)
    if shape is not None and value.shape != shape:
        raise ShapeError(f"backward: {name} has shape {value.shape}; it must be {shape}")
    return value


def as_tape(owner, tape):
    tape = getattr(tape, "tape", tape)
    if not isinstance(tape, dict) or "alpha" not in tape:
        raise OptionError(f"{owner}: give what ar.attention returned, or its tape; got {type(tape).__name__}")
    return tape


def one_head(owner, array, index):
    """The (query, key) matrix at an index of the leading axes; axes of length one need none."""
    array = np.asarray(array)
    lead = [n for n in array.shape[:-2] if n > 1]
    given = () if index is None else (index,) if isinstance(index, (int, np.integer)) else tuple(index)
    if len(given) != len(lead):
        raise ShapeError(
            f"{owner}: shape {array.shape} has {len(lead)} leading axes longer than one; give index= that many numbers"
        )
    array = array.reshape(*lead, *array.shape[-2:])
    given = tuple(checks.index(owner, "index", i, n, "entries") for i, n in zip(given, lead, strict=True))
    return array[given]


def allowed_in(tape, alpha, index):
    """What was allowed, read off the masked scores; None where nothing was masked."""
    if "masked" not in tape:
        return None
    return ~np.isneginf(one_head("pipeline", np.broadcast_to(tape["masked"], tape["alpha"].shape), index))


def row_of_axes(owner, figure, count, shape):
    columns = count if count <= 4 else 3 if count <= 6 else 4
    lines = -(-count // columns)
    ratio = min(max(shape[0] / shape[1], 0.5), 2)
    new = figure is None
    figure = own_figure(owner, figure, columns * (SIDE / max(1.0, ratio) + 1.3), lines * (SIDE * min(1.0, ratio) + 1.7))
    if new:
        figure.get_layout_engine().set(w_pad=0.12)
    spec = GridSpec(lines, columns, figure=figure)
    return np.array([figure.add_subplot(spec[at // columns, at % columns]) for at in range(count)]), figure


def draw_scores(where, matrices, labels, max_cells):
    """The score matrices on one scale, each with the colorbar of that scale."""
    kinds = ["scores" if name in ("biased", "masked") else "plain" for name, _ in where]
    grids = [
        make_grid(matrix, kind=kind, limits=cells_that_fit(ax, matrix.shape, True, max_cells), how="extreme")
        for (_, ax), matrix, kind in zip(where, matrices, kinds, strict=True)
    ]  # fmt: skip
    norm = colors.zero_centered("pipeline", grids)
    for (name, ax), grid in zip(where, grids, strict=True):
        image = draw_cells(ax, grid, colors.SIGNED, norm)
        label_axes("pipeline", ax, labels, grid.shape)
        ax.set(title=SCORES[name], ylabel="query (i)", xlabel="\n".join(filter(None, ["key (j)", grid.note])))
        add_colorbar(ax, image, norm, [grid], "score")
        put_legend(ax, handles([grid], colors.SIGNED, norm))
        set_alt_text(ax, describe_grid(grid, labels, title=SCORES[name]))
