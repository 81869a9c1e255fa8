"""How far attention spreads: entropy of a row, rollout and maximum flow through the layers. Numbers, no pictures.

Rollout and flow are Abnar and Zuidema's (2020): each layer is the mean of its heads, mixed with the residual
connection; rollout multiplies these matrices, flow takes them as capacities.
"""

import numpy as np

from attention_ref.errors import OptionError, ShapeError
from attention_ref.plot.drawing import checks

UNIT = 2**52


def row_entropy(alpha):
    """Bits of every row of weights, in any number of leading axes; NaN for a row that attends to nothing.

    >>> import attention_ref as ar
    >>> ar.plot.row_entropy([[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0], [0, 0, 0, 0]])
    array([ 2.,  1., nan])
    """
    alpha = np.asarray(alpha, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = -np.sum(np.where(alpha == 0, 0, alpha * np.log2(alpha)), axis=-1)
    return np.where((alpha == 0).all(axis=-1), np.nan, bits)


def mixed(owner, layers, residual, heads=None):
    """The matrix of every layer: the mean of its heads, mixed with the identity. Its rows sum to 1.

    Where a query attends to nothing, only the residual connection carries something.
    """
    if not isinstance(residual, (int, float, np.number)) or not 0 <= residual <= 1:
        raise OptionError(f"{owner}: residual={residual} must lie between 0 and 1")
    chosen = checks.subset(owner, "heads", heads, len(layers[0]))
    queries, keys = layers[0].shape[1:]
    if queries != keys:
        raise ShapeError(f"{owner}: {queries} queries and {keys} keys: only self-attention passes through layers")
    return [mix(owner, number, layer[chosen].astype(np.float64), residual) for number, layer in enumerate(layers)]


def mix(owner, number, layer, residual):
    sums = layer.sum(axis=-1)
    dead = (layer == 0).all(axis=-1)
    if not np.all(dead | (np.abs(sums - 1) < 1e-2)) or (layer < 0).any():
        low, high = np.min(sums[~dead]), np.max(sums[~dead])
        raise OptionError(
            f"{owner}: the rows of layer {number} sum to {low:.3g} to {high:.3g} and its smallest weight is "
            f"{layer.min():.3g}; the weights of a query must be 0 or more and sum to 1"
        )
    weights = layer / np.where(dead, 1, sums)[..., None] + dead[..., None] * np.eye(layer.shape[-1])
    return residual * np.eye(layer.shape[-1]) + (1 - residual) * weights.mean(axis=0)


def rollout_weights(layers, residual=0.5, heads=None):
    """The share that each query of the last layer takes from each token of the input, (query, token).

    >>> import numpy as np
    >>> import attention_ref as ar
    >>> swap = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> ar.plot.rollout_weights([swap[None]] * 2, residual=0.0)  # two layers, one head: there and back
    array([[1., 0.],
           [0., 1.]])

    Args:
        layers: the weights of every layer, (head, query, key)
        residual: the share of the residual connection
        heads: which heads; None: all
    """
    total = None
    for matrix in mixed("rollout", layers, residual, heads):
        total = matrix if total is None else matrix @ total
    return total


def flow_weights(layers, residual=0.5, heads=None, queries=None):
    """The largest flow from each query of the last layer to each token of the input, (query, token).

    Capacities are rounded to multiples of 2⁻⁵², and the flows are exact in these.
    """
    matrices = mixed("flow", layers, residual, heads)
    tokens = len(matrices[0])
    graph = layered(matrices)
    queries = checks.subset("flow", "queries", queries, tokens)
    top = len(matrices) * tokens
    return np.array([[max_flow(graph, top + i, j) / UNIT for j in range(tokens)] for i in queries])


def layered(matrices):
    """For every node the capacities of its edges to the layer below; token t after layer l is node l·tokens + t."""
    tokens = len(matrices[0])
    graph = [{} for _ in range(tokens)]
    for below, matrix in enumerate(matrices):
        for row in np.rint(matrix * UNIT).astype(np.int64).tolist():
            graph.append({below * tokens + j: capacity for j, capacity in enumerate(row) if capacity})
    return graph


def max_flow(graph, source, sink):
    """The largest flow, by Dinic's algorithm: blocking flows along shortest paths until the sink is out of reach."""
    rest = [dict(edges) for edges in graph]
    total = 0
    while True:
        level = levels(rest, source)
        if level[sink] < 0:
            return total
        total += push(rest, level, [list(edges) for edges in rest], source, sink, float("inf"))


def levels(rest, source):
    level = [-1] * len(rest)
    level[source], reached = 0, [source]
    for node in reached:
        for other, capacity in rest[node].items():
            if capacity and level[other] < 0:
                level[other] = level[node] + 1
                reached.append(other)
    return level


def push(rest, level, untried, node, sink, limit):
    """Send up to `limit` from a node to the sink along edges one level down, forgetting the edges that are used up."""
    if node == sink:
        return limit
    sent = 0
    while untried[node] and sent < limit:
        other = untried[node][-1]
        capacity = rest[node][other]
        got = 0
        if capacity and level[other] == level[node] + 1:
            got = push(rest, level, untried, other, sink, min(limit - sent, capacity))
            rest[node][other] -= got
            rest[other][node] = rest[other].get(node, 0) + got
            sent += got
        if sent < limit:
            untried[node].pop()
    return sent
