"""A whole model in one picture: entropy by layer and head, rollout, flow."""

from math import log2

import numpy as np
from matplotlib.colors import Normalize

from attention_ref.plot.drawing import checks, colors
from attention_ref.plot.drawing.cells import add_colorbar, annotate, draw_cells
from attention_ref.plot.drawing.figures import own_axes, tell
from attention_ref.plot.drawing.labels import label_axes
from attention_ref.plot.drawing.legend import handles, put_legend
from attention_ref.plot.drawing.reduction import make_grid
from attention_ref.plot.grids import stacked
from attention_ref.plot.heatmap import heatmap
from attention_ref.plot.measures import flow_weights, rollout_weights, row_entropy


def entropy(alphas, *, ax=None, title=None, annot="auto", fmt=".1f", cbar=True, cmap=colors.SEQUENTIAL):
    """The mean entropy of the rows in bits, (layer, head): 0 where each query attends to one key, log2(keys) at most.

    One layer, (head, query, key), is a single row. Rows that attend to nothing are left out.
    """
    if getattr(alphas, "ndim", None) == 3:
        alphas = [alphas]
    bits, alive = zip(*(mean_bits(layer) for layer in stacked("entropy", alphas)), strict=True)
    grid = make_grid(np.array(bits), np.array(alive), kind="plain")
    most = log2(max(2, stacked("entropy", alphas)[0].shape[-1]))
    ax = own_axes("entropy", ax, grid.shape)
    cmap, norm = colors.colormap("entropy", cmap), Normalize(0, most)
    image = draw_cells(ax, grid, cmap, norm)
    annotate("entropy", ax, grid, cmap, norm, annot, fmt)
    label_axes("entropy", ax, (None, None), grid.shape)
    ax.set(xlabel="head", ylabel="layer", title=title)
    if cbar:
        add_colorbar(ax, image, norm, [grid], f"bits, of at most {most:.1f}")
    put_legend(ax, handles([grid], cmap, norm))
    value, layer, head = grid.peak or (0, 0, 0)
    peak = f"the largest is {value:.2f} bits in layer {-layer}, head {-head}, the smallest {grid.low:.2f}"
    return tell(ax, f"Mean entropy of the weights, {grid.shape[0]} layers by {grid.shape[1]} heads: {peak}.")


def mean_bits(layer):
    """(the mean over a layer's living rows by head, whether there are any)."""
    bits = row_entropy(layer)
    alive = ~(layer == 0).all(axis=-1)
    return np.where(alive, bits, 0).sum(axis=-1) / np.maximum(alive.sum(axis=-1), 1), alive.any(axis=-1)


def rollout(alphas, residual=0.5, *, heads=None, labels=None, ax=None, title=None, **options):
    """The share that each query of the last layer takes from each token of the input, by attention rollout.

    A layer is the mean of its heads, `1 - residual` of it, and the identity, `residual`; the rows of the product sum
    to 1. `rollout_weights` gives the numbers; further options are `heatmap`'s.
    """
    weights = rollout_weights(stacked("rollout", alphas), residual, heads)
    return through("rollout", weights, labels, ax, title, {"check_rows": "raise", "cbar_label": "rollout"} | options)


def flow(alphas, residual=0.5, *, heads=None, queries=None, labels=None, ax=None, title=None, **options):
    """The largest flow from each query of the last layer to each token of the input, the layers being capacities.

    The flows of a row are separate problems and do not sum to 1. The time grows fast with tokens and layers: `queries`
    chooses some. `flow_weights` gives the numbers; further options are `heatmap`'s.
    """
    layers = stacked("flow", alphas)
    weights = flow_weights(layers, residual, heads, queries)
    chosen = checks.subset("flow", "queries", queries, layers[0].shape[-1])
    options = {"check_rows": "ignore", "cbar_label": "maximum flow"} | options
    if queries is not None:
        names = labels or [str(i) for i in range(weights.shape[1])]
        options = {"query_labels": [names[i] for i in chosen]} | options
    return through("flow", weights, labels, ax, title, options)


def through(owner, weights, labels, ax, title, options):
    count = weights.shape[1]
    labels = checks.labels(owner, "labels", labels, count, "tokens")
    options = {"query_labels": labels, "key_labels": labels, "title": title, "ax": ax} | options
    ax = heatmap(weights, **options)
    ax.set_ylabel("query of the last layer (i)")
    ax.set_xlabel(ax.get_xlabel().replace("key (j)", "token of the input (j)"))
    return ax
