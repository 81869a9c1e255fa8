"""Alpha in words and characters: alt text, and a rendering for a terminal."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from attention_ref.plot.drawing import checks
from attention_ref.plot.drawing.labels import visible_token
from attention_ref.plot.drawing.look import LabelPair
from attention_ref.plot.drawing.reduction import Grid, make_grid
from attention_ref.plot.drawing.row_sums import wrong_rows
from attention_ref.plot.drawing.states import COLORED, EMPTY, LEAK, MASKED, NAMES, NAN, SEEN

KIND_NAMES = {"weights": "attention weights", "scores": "scores", "gradient": "gradients", "plain": "values"}
MOST_SENTENCES = 24  # a sentence a query: about a minute and a half of a screen reader's time


def describe(
    alpha: npt.ArrayLike,
    *,
    query_labels: Sequence[str] | None = None,
    key_labels: Sequence[str] | None = None,
    allowed: npt.ArrayLike | None = None,
) -> str:
    """Alpha in sentences, as alternative text for a picture of it.

    >>> import attention_ref as ar
    >>> print(ar.plot.describe([[1.0, 0.0], [0.25, 0.75]], query_labels=["je", "t'aime"], key_labels=["I", "love you"]))
    heatmap of attention weights, 2 queries by 2 keys. The largest is 1, query 0 “je”, key 0 “I”; the smallest is 0.
    Every row that attends sums to 1. Query 0 “je” attends most to key 0 “I” (1.00), key 1 “love you” (0.00).
    Query 1 “t'aime” attends most to key 1 “love you” (0.75), key 0 “I” (0.25).
    """
    values = checks.numbers("describe", alpha, ("query", "key"))
    masks = checks.boolean("describe", allowed, values.shape)
    labels = checked_labels("describe", values.shape, query_labels, key_labels)
    grid = make_grid(values, masks, limits=values.shape)
    sentences = [describe_grid(grid, labels, dtype=values.dtype)]
    if max(values.shape) <= MOST_SENTENCES:
        for query, keys in strongest_keys(grid, labels, 2):
            pairs = ", ".join(f"{key} ({weight:.2f})" for key, weight in keys)
            sentences.append(f"{query} attends most to {pairs}.")
    return " ".join(sentences)


def checked_labels(owner: str, shape: Sequence[int], query_labels: Any, key_labels: Any) -> LabelPair:
    return (
        checks.labels(owner, "query_labels", query_labels, shape[0], "rows (queries)"),
        checks.labels(owner, "key_labels", key_labels, shape[1], "columns (keys)"),
    )


def name_with_label(kind: str, labels: Sequence[str] | None, index: int) -> str:
    """A query or key by its number and its label: “key 3 “cat””."""
    return f"{kind} {index}" if labels is None else f"{kind} {index} “{visible_token(labels[index])}”"


def describe_grid(grid: Grid, labels: LabelPair = (None, None), title: str = "", dtype: np.dtype | None = None) -> str:
    """The facts of a grid in sentences; rows are checked if `dtype` is there."""
    rows, columns = grid.shape
    query_labels, key_labels = labels
    prefix = f"{title}: " if title else ""
    sentences = [f"{prefix}heatmap of {KIND_NAMES[grid.kind]}, {rows} queries by {columns} keys."]
    if grid.peak:
        query = name_with_label("query", query_labels, grid.peak.row)
        key = name_with_label("key", key_labels, grid.peak.column)
        sentences.append(f"The largest is {grid.peak.value:.3g}, {query}, {key}; the smallest is {grid.low:.3g}.")
    for state, count in grid.counts.items():
        if count:
            sentences.append(f"{count} of {rows * columns} cells: {NAMES[state]}.")
    if dtype is not None and grid.kind == "weights":
        sentences.append(describe_sums(grid, dtype))
    if grid.note:
        sentences.append(f"Shown reduced, {grid.note}.")
    return " ".join(sentences)


def describe_sums(grid: Grid, dtype: np.dtype) -> str:
    """Whether the rows sum to 1; rows that hold NaN have no sum to speak of."""
    wrong = wrong_rows(grid, dtype).size
    without_sum = int((grid.row_states == NAN).sum())
    if wrong:
        sentence = "1 row does not sum to 1." if wrong == 1 else f"{wrong} rows do not sum to 1."
    elif (grid.row_states == SEEN).any():
        sentence = f"Every {'other ' if without_sum else ''}row that attends sums to 1."
    else:
        sentence = "No row has weights that could sum to 1."
    if without_sum:
        verb = "holds" if without_sum == 1 else "hold"
        sentence = f"{without_sum} of {grid.shape[0]} rows {verb} NaN or ∞. {sentence}"
    return sentence


def strongest_keys(grid: Grid, labels: LabelPair, count: int) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """(query, [(key, weight), …]) for every query that has weights, the largest first."""
    query_labels, key_labels = labels
    for i in range(grid.shape[0]):
        keys = np.flatnonzero(np.isin(grid.states[i], COLORED))
        order = keys[np.argsort(-grid.values[i, keys], kind="stable")][:count]
        if order.size:
            strongest = [(name_with_label("key", key_labels, j), grid.values[i, j]) for j in order]
            yield name_with_label("Query", query_labels, i), strongest


CELLS = {MASKED: "/", EMPTY: "-", NAN: "NaN", LEAK: "!"}


def text(
    alpha: npt.ArrayLike,
    *,
    query_labels: Sequence[str] | None = None,
    key_labels: Sequence[str] | None = None,
    allowed: npt.ArrayLike | None = None,
    width: int = 100,
    top: int = 3,
) -> str:
    """Alpha for a terminal: a table of percents where it fits in `width`, else the `top` keys of every query.

    It has no colors and draws no boxes, so a screen reader reads it line by line.
    """
    values = checks.numbers("text", alpha, ("query", "key"))
    masks = checks.boolean("text", allowed, values.shape)
    labels = checked_labels("text", values.shape, query_labels, key_labels)
    grid = make_grid(values, masks, limits=values.shape)
    lines = as_table(grid, labels)
    if len(lines[1]) > width:
        lines = as_lists(grid, labels, checks.positive("text", "top", top))
    return "\n".join([*lines, describe_grid(grid, labels, dtype=values.dtype)])


def as_table(grid: Grid, labels: LabelPair) -> list[str]:
    queries, keys = (short_labels(texts, count) for texts, count in zip(labels, grid.shape, strict=True))
    columns = [["i \\ j", *queries]]
    for j, key in enumerate(keys):
        columns.append([key, *(percent(grid, i, j) for i in range(grid.shape[0]))])
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for row in zip(*columns, strict=True):
        lines.append("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    return ["weights in percent" + legend(grid), *lines]


def short_labels(texts: Sequence[str] | None, count: int) -> list[str]:
    """Labels of at most 9 characters, so that a table of ten columns fits in 100."""
    if texts is None:
        return [str(index) for index in range(count)]
    return [visible_token(text, longest=9) for text in texts]


def percent(grid: Grid, i: int, j: int) -> str:
    state = int(grid.states[i, j])
    sign = CELLS.get(state, "")
    return f"{sign}{100 * grid.values[i, j]:.0f}" if state in COLORED else sign


def legend(grid: Grid) -> str:
    signs = [f"{CELLS[state]} {name}" for state, name in NAMES.items() if grid.counts[state]]
    return "; " + ", ".join(signs) if signs else ""


def as_lists(grid: Grid, labels: LabelPair, count: int) -> list[str]:
    lines = [f"the {count} largest weights of every query{legend(grid)}"]
    keys_of = dict(strongest_keys(grid, labels, count))
    for i in range(grid.shape[0]):
        query = name_with_label("Query", labels[0], i)
        strongest = ", ".join(f"{key} {weight:.3f}" for key, weight in keys_of.get(query, ()))
        lines.append(f"{query}: {strongest or 'none'}")
    return lines
