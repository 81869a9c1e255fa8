"""Alpha in words and characters: alt text, and a rendering for a terminal."""

import numpy as np

from attention_ref.plot.drawing import checks
from attention_ref.plot.drawing.labels import shown
from attention_ref.plot.drawing.reduction import make_grid
from attention_ref.plot.drawing.row_sums import wrong_rows
from attention_ref.plot.drawing.states import DEAD, LEAK, MASKED, NAMES, NAN, SEEN

PEOPLE = {"weights": "attention weights", "scores": "scores", "gradient": "gradients", "plain": "values"}


def describe(alpha, *, query_labels=None, key_labels=None, allowed=None):
    """Alpha in sentences, as alternative text for a picture of it.

    >>> import attention_ref as ar
    >>> print(ar.plot.describe([[1.0, 0.0], [0.25, 0.75]], query_labels=["je", "t'aime"], key_labels=["I", "love you"]))
    heatmap of attention weights, 2 queries by 2 keys. The largest is 1, query 0 “je”, key 0 “I”; the smallest is 0.
    Every row that attends sums to 1. Query 0 “je” attends most to key 0 “I” (1.00), key 1 “love you” (0.00).
    Query 1 “t'aime” attends most to key 1 “love you” (0.75), key 0 “I” (0.25).
    """
    values = checks.numbers("describe", alpha, ("query", "key"))
    allowed = checks.boolean("describe", allowed, values.shape)
    names = named("describe", values.shape, query_labels, key_labels)
    grid = make_grid(values, allowed, limits=values.shape)
    sentences = [describe_grid(grid, names, dtype=values.dtype)]
    if max(values.shape) <= 24:
        sentences += [
            f"{query} attends most to {', '.join(f'{key} ({weight:.2f})' for key, weight in top)}."
            for query, top in strongest(grid, names, 2)
        ]
    return " ".join(sentences)


def named(owner, shape, query_labels, key_labels):
    return (
        checks.labels(owner, "query_labels", query_labels, shape[0], "rows (queries)"),
        checks.labels(owner, "key_labels", key_labels, shape[1], "columns (keys)"),
    )


def who(kind, labels, at):
    return f"{kind} {at}" if labels is None else f"{kind} {at} “{shown(labels[at])}”"


def describe_grid(grid, labels=(None, None), title="", dtype=None):
    """The facts of a grid in sentences; rows are checked if `dtype` is given."""
    rows, columns = grid.shape
    query_labels, key_labels = labels
    words = [f"{title + ': ' if title else ''}heatmap of {PEOPLE[grid.kind]}, {rows} queries by {columns} keys."]
    if grid.peak:
        value, i, j = grid.peak[0], -grid.peak[1], -grid.peak[2]
        words.append(f"The largest is {value:.3g}, {who('query', query_labels, i)}, {who('key', key_labels, j)};")
        words.append(f"the smallest is {grid.low:.3g}.")
    words += [f"{count} of {rows * columns} cells: {NAMES[state]}." for state, count in grid.counts.items() if count]
    if dtype is not None and grid.kind == "weights":
        wrong = wrong_rows(grid, dtype)
        words.append(f"{wrong.size} rows do not sum to 1." if wrong.size else "Every row that attends sums to 1.")
    if grid.note:
        words.append(f"Shown reduced, {grid.note}.")
    return " ".join(words)


def strongest(grid, labels, count):
    """(query, [(key, weight), …]) for every query that has weights, the largest first."""
    query_labels, key_labels = labels
    for i in range(grid.shape[0]):
        seen = np.flatnonzero(np.isin(grid.states[i], (SEEN, LEAK)))
        order = seen[np.argsort(-grid.values[i, seen], kind="stable")][:count]
        if order.size:
            top = [(who("key", key_labels, j), grid.values[i, j]) for j in order]
            yield who("Query", query_labels, i), top


CELLS = {MASKED: "/", DEAD: "-", NAN: "NaN", LEAK: "!"}


def text(alpha, *, query_labels=None, key_labels=None, allowed=None, width=100, top=3):
    """Alpha for a terminal: a table of percents where it fits in `width`, else the `top` keys of every query.

    It has no colors and draws no boxes, so a screen reader reads it line by line.
    """
    values = checks.numbers("text", alpha, ("query", "key"))
    allowed = checks.boolean("text", allowed, values.shape)
    names = named("text", values.shape, query_labels, key_labels)
    grid = make_grid(values, allowed, limits=values.shape)
    table = as_table(grid, names)
    lines = table if len(table[1]) <= width else as_lists(grid, names, checks.positive("text", "top", top))
    return "\n".join([*lines, describe_grid(grid, names, dtype=values.dtype)])


def as_table(grid, labels):
    queries, keys = (
        [str(at) if names is None else shown(names[at], 9) for at in range(n)]
        for names, n in zip(labels, grid.shape, strict=True)
    )
    cells = [[percent(grid, i, j) for j in range(grid.shape[1])] for i in range(grid.shape[0])]
    columns = [["i \\ j", *queries]]
    columns += [[key, *(row[j] for row in cells)] for j, key in enumerate(keys)]
    widths = [max(map(len, column)) for column in columns]
    lines = ([cell.rjust(w) for cell, w in zip(row, widths, strict=True)] for row in zip(*columns, strict=True))
    return ["weights in percent" + legend(grid), *map("  ".join, lines)]


def percent(grid, i, j):
    state = grid.states[i, j]
    number = f"{100 * grid.values[i, j]:.0f}"
    return CELLS.get(int(state), "") + (number if state in (SEEN, LEAK) else "")


def legend(grid):
    present = [f"{CELLS[state]} {name}" for state, name in NAMES.items() if grid.counts[state]]
    return "; " + ", ".join(present) if present else ""


def as_lists(grid, labels, count):
    lines = [f"the {count} largest weights of every query{legend(grid)}"]
    found = dict(strongest(grid, labels, count))
    for query in (who("Query", labels[0], i) for i in range(grid.shape[0])):
        top = ", ".join(f"{key} {weight:.3f}" for key, weight in found.get(query, ()))
        lines.append(f"{query}: {top or 'none'}")
    return lines
