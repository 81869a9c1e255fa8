"""What the plot tests share: weights to draw, and figures looked at through the Agg renderer."""

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from attention_ref import plot


def softmax(s):
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def weights(*shape, seed=0, sharp=2.0):
    return softmax(sharp * np.random.default_rng(seed).standard_normal(shape))


def causal(queries, keys, seed=0):
    """(weights, allowed) of a causal head; the last query sees the last key."""
    allowed = np.tri(queries, keys, keys - queries, dtype=bool)
    s = np.random.default_rng(seed).standard_normal((queries, keys))
    return softmax(np.where(allowed, s, -np.inf)), allowed


def pixels(figure):
    """The figure drawn: height, width, RGBA."""
    canvas = FigureCanvasAgg(figure.canvas.figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def written(figure, format="png", **options):
    out = io.BytesIO()
    plot.save(figure, out, format, **options)
    return out.getvalue()


def tick_labels(axis):
    """The tick labels that are drawn, after drawing."""
    pixels(axis.axes.figure)
    return [label for label in axis.get_ticklabels() if label.get_visible() and label.get_text()]


def overlaps(texts):
    """The pairs of texts whose bounding boxes overlap."""
    boxes = [text.get_window_extent() for text in texts]
    return [
        (a.get_text(), b.get_text())
        for at, a in enumerate(texts)
        for bt, b in enumerate(texts[at + 1 :], at + 1)
        if boxes[at].overlaps(boxes[bt]) and shared(boxes[at], boxes[bt]) > 1
    ]


def shared(a, b):
    """The area two boxes share, in pixels."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return max(width, 0) * max(height, 0)


def hatches(ax):
    """The hatched patches on an axes, by what they stand for."""
    return {patch.get_label(): patch for patch in ax.patches if patch.get_hatch()}


def legend_texts(owner):
    legend = owner.get_legend() if hasattr(owner, "get_legend") else owner.legends[0]
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]
