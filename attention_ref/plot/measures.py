"""How far attention spreads: entropy of a row, rollout and maximum flow through the layers. Numbers, no pictures.

Rollout and flow are Abnar and Zuidema's (2020): each layer is the mean of its heads, mixed with the residual
connection; rollout multiplies these matrices, flow takes them as capacities.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from attention_ref.errors import OptionError, ShapeError
from attention_ref.plot.drawing import checks

UNIT = 2**52  # capacities are whole numbers of 1 / UNIT: float64 has no finer step just above 1/2, and flows are exact
SUM_TOLERANCE = 1e-2  # of rows that are then divided by their sum: weights that were rounded to float16 pass


def row_entropy(alpha: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Bits of every row of weights, in any number of leading axes; NaN for a row that attends to nothing.

    >>> import attention_ref as ar
    >>> ar.plot.row_entropy([[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0], [0, 0, 0, 0]])
    array([ 2.,  1., nan])
    """
    alpha = np.asarray(alpha, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = -np.sum(np.where(alpha == 0, 0, alpha * np.log2(alpha)), axis=-1)
    return np.where((alpha == 0).all(axis=-1), np.nan, bits)


def mixed(owner: str, layers: Any, residual: float, heads: Any = None) -> list[np.ndarray]:
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


def mix(owner: str, number: int, layer: np.ndarray, residual: float) -> np.ndarray:
    """The matrix of one layer, (query, key), from the weights of its heads, (head, query, key)."""
    sums = layer.sum(axis=-1)
    empty = (layer == 0).all(axis=-1)
    if not np.all(empty | (np.abs(sums - 1) < SUM_TOLERANCE)) or (layer < 0).any():
        low, high = np.min(sums[~empty]), np.max(sums[~empty])
        raise OptionError(
            f"{owner}: the rows of layer {number} sum to {low:.3g} to {high:.3g} and its smallest weight is "
            f"{layer.min():.3g}; the weights of a query must be 0 or more and sum to 1"
        )
    identity = np.eye(layer.shape[-1])
    weights = layer / np.where(empty, 1, sums)[..., None] + empty[..., None] * identity
    return residual * identity + (1 - residual) * weights.mean(axis=0)


def rollout_weights(
    layers: Sequence[npt.NDArray[Any]] | npt.NDArray[Any],
    residual: float = 0.5,
    heads: int | slice | Sequence[int] | None = None,
) -> npt.NDArray[np.float64]:
    """How much each query of the last layer takes from each token of the input, (query, token).

    >>> import numpy as np
    >>> import attention_ref as ar
    >>> swap = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> ar.plot.rollout_weights([swap[None]] * 2, residual=0.0)  # two layers, one head: there and back
    array([[1., 0.],
           [0., 1.]])

    Args:
        layers: the weights of every layer, (head, query, key)
        residual: how much of a layer's output is its input, from 0 to 1
        heads: which heads; None: all
    """
    first, *others = mixed("rollout", layers, residual, heads)
    product = first
    for matrix in others:
        product = matrix @ product
    return product


def flow_weights(
    layers: Sequence[npt.NDArray[Any]] | npt.NDArray[Any],
    residual: float = 0.5,
    heads: int | slice | Sequence[int] | None = None,
    queries: int | slice | Sequence[int] | None = None,
) -> npt.NDArray[np.float64]:
    """The largest flow from each query of the last layer to each token of the input, (query, token).

    Capacities are rounded to multiples of 2⁻⁵², and the flows are exact in these.
    """
    # `scipy.sparse.csgraph.maximum_flow` computes in 32-bit integers: weights would keep 9 digits of their 16, and in
    # SciPy 1.17 a larger capacity is wrong without an error (the flow through one edge of 2⁴⁰ is 0)
    matrices = mixed("flow", layers, residual, heads)
    tokens = len(matrices[0])
    graph = layered(matrices)
    queries = checks.subset("flow", "queries", queries, tokens)
    top = len(matrices) * tokens
    return np.array([[max_flow(graph, top + i, j) / UNIT for j in range(tokens)] for i in queries])


def layered(matrices: list[np.ndarray]) -> list[dict[int, int]]:
    """For every node the capacities of its edges to the layer below; token t after layer l is node l·tokens + t."""
    tokens = len(matrices[0])
    graph: list[dict[int, int]] = [{} for _ in range(tokens)]
    for below, matrix in enumerate(matrices):
        for row in np.rint(matrix * UNIT).astype(np.int64).tolist():
            graph.append({below * tokens + j: capacity for j, capacity in enumerate(row) if capacity})
    return graph


def max_flow(graph: list[dict[int, int]], source: int, sink: int) -> int:
    """The largest flow, by Dinic's algorithm (1970).

    Flow is sent along all shortest paths at once until each of them has a full edge, and again along the shortest
    paths of what remains, until the sink is out of reach. Every round lengthens the shortest path, so rounds are few.
    """
    rest = [dict(edges) for edges in graph]
    total = 0
    while True:
        level = levels(rest, source)
        if level[sink] < 0:
            return total
        total += push(rest, level, [list(edges) for edges in rest], source, sink, float("inf"))


def levels(rest: list[dict[int, int]], source: int) -> list[int]:
    """The distance of every node from the source along edges with capacity left; -1 where it cannot be reached."""
    level = [-1] * len(rest)
    level[source], reached = 0, [source]
    for node in reached:
        for other, capacity in rest[node].items():
            if capacity and level[other] < 0:
                level[other] = level[node] + 1
                reached.append(other)
    return level


def push(rest: list, level: list[int], untried: list[list[int]], node: int, sink: int, limit: Any) -> Any:
    """Send up to `limit` from a node to the sink along edges one level down, forgetting the edges that are used up."""
    if node == sink:
        return limit
    sent = 0
    while untried[node] and sent < limit:
        other = untried[node][-1]
        capacity = rest[node][other]
        passed = 0
        if capacity and level[other] == level[node] + 1:
            passed = push(rest, level, untried, other, sink, min(limit - sent, capacity))
            rest[node][other] -= passed
            rest[other][node] = rest[other].get(node, 0) + passed  # a later path may take it back
            sent += passed
        if sent < limit:
            untried[node].pop()
    return sent
