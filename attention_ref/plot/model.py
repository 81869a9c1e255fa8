"""A complete model in one picture: entropy by layer and head, rollout, flow."""

from collections.abc import Sequence
from math import log2
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize

from attention_ref.plot.drawing import checks, colors
from attention_ref.plot.drawing.figures import own_axes, set_alt_text
from attention_ref.plot.drawing.look import Annotation, LabeledOptions, Look, make_look
from attention_ref.plot.drawing.matrix import draw_matrix
from attention_ref.plot.drawing.reduction import make_grid
from attention_ref.plot.grids import stacked
from attention_ref.plot.heatmap import draw_weights
from attention_ref.plot.measures import flow_weights, rollout_weights, row_entropy

if TYPE_CHECKING:
    from typing_extensions import Unpack

AXES = {"query_axis": "query of the last layer (i)", "key_axis": "token of the input (j)"}


def entropy(
    alphas: npt.ArrayLike | Sequence[npt.ArrayLike],
    *,
    ax: Axes | None = None,
    title: str | None = None,
    annot: Annotation = "auto",
    fmt: str = ".1f",
    cbar: bool = True,
    cmap: str | Colormap = colors.SEQUENTIAL,
) -> Axes:
    """The mean entropy of the rows in bits, (layer, head): 0 where each query attends to one key, log2(keys) at most.

    One layer, (head, query, key), is a single row. Rows that attend to nothing are left out.
    """
    layers = stacked("entropy", [alphas] if getattr(alphas, "ndim", None) == 3 else alphas)
    bits, has_rows = zip(*(mean_bits(layer) for layer in layers), strict=True)
    grid = make_grid(np.array(bits), np.array(has_rows), kind="plain")
    most = log2(max(2, layers[0].shape[-1]))
    look = Look(
        cmap=cmap,
        annot=annot,
        fmt=fmt,
        cbar=cbar,
        cbar_label=f"bits, of at most {most:.1f}",
        title=title,
        query_axis="layer",
        key_axis="head",
    )
    ax = own_axes("entropy", ax, grid.shape)
    draw_matrix("entropy", ax, grid, Normalize(0, most), (None, None), look)
    sentence = f"Mean entropy of the weights, {grid.shape[0]} layers by {grid.shape[1]} heads"
    if grid.peak:
        largest = f"{grid.peak.value:.2f} bits in layer {grid.peak.row}, head {grid.peak.column}"
        sentence += f": the largest is {largest}, the smallest {grid.low:.2f}"
    return set_alt_text(ax, f"{sentence}.")


def mean_bits(layer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the mean by head over the rows that attend to something, whether there are any), from (head, query, key)."""
    bits = row_entropy(layer)
    attends = ~(layer == 0).all(axis=-1)
    return np.where(attends, bits, 0).sum(axis=-1) / np.maximum(attends.sum(axis=-1), 1), attends.any(axis=-1)


def rollout(
    alphas: npt.ArrayLike | Sequence[npt.ArrayLike],
    residual: float = 0.5,
    *,
    heads: int | slice | Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    ax: Axes | None = None,
    title: str | None = None,
    **options: "Unpack[LabeledOptions]",
) -> Axes:
    """How much each query of the last layer takes from each token of the input, by attention rollout.

    A layer is the mean of its heads, `1 - residual` of it, and the identity, `residual`; the rows of the product sum
    to 1. `rollout_weights` gives the numbers; further options are `heatmap`'s.
    """
    weights = rollout_weights(stacked("rollout", alphas), residual, heads)
    labels = checks.labels("rollout", "labels", labels, weights.shape[1], "tokens")
    presets = {"check_rows": "raise", "cbar_label": "rollout", "title": title}
    return draw_labeled("rollout", weights, labels, labels, ax, options, presets)


def flow(
    alphas: npt.ArrayLike | Sequence[npt.ArrayLike],
    residual: float = 0.5,
    *,
    heads: int | slice | Sequence[int] | None = None,
    queries: int | slice | Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    ax: Axes | None = None,
    title: str | None = None,
    **options: "Unpack[LabeledOptions]",
) -> Axes:
    """The largest flow from each query of the last layer to each token of the input, the weights being capacities.

    The flows of a row are separate problems and do not sum to 1. The time grows fast with tokens and layers: `queries`
    chooses some. `flow_weights` gives the numbers; further options are `heatmap`'s.
    """
    layers = stacked("flow", alphas)
    weights = flow_weights(layers, residual, heads, queries)
    tokens = weights.shape[1]
    labels = checks.labels("flow", "labels", labels, tokens, "tokens")
    query_labels = labels
    if queries is not None:  # the rows are not counted from 0, so each has its number where it has no name
        names = labels or [str(token) for token in range(tokens)]
        query_labels = [names[query] for query in checks.subset("flow", "queries", queries, tokens)]
    presets = {"check_rows": "ignore", "cbar_label": "maximum flow", "title": title}
    return draw_labeled("flow", weights, query_labels, labels, ax, options, presets)


def draw_labeled(
    owner: str, weights: np.ndarray, query_labels: Any, key_labels: Any, ax: Axes | None, options: Any, presets: Any
) -> Axes:
    """The heatmap of (query, token), with labels of the function's own unless the options have others."""
    options = {"query_labels": query_labels, "key_labels": key_labels, "allowed": None} | options
    query_labels, key_labels, allowed = (options.pop(name) for name in ("query_labels", "key_labels", "allowed"))
    look = make_look(owner, options, LabeledOptions, **presets, **AXES)
    return draw_weights(owner, weights, query_labels, key_labels, allowed, ax, look)
