"""Figures without pyplot: made, described in words, and saved so that the same array gives the same bytes."""

import io
from os import PathLike
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import TightLayoutEngine

from attention_ref.errors import OptionError

SALT = "attention_ref"
THINNEST = 24
"""How many times as long as wide a matrix of square cells may be."""

FORMATS = ("png", "svg", "pdf")


class Picture(Figure):
    """A figure that a notebook shows by itself, and stores with a digest of what is drawn."""

    def _repr_png_(self):
        out = io.BytesIO()
        save(self, out, "png")
        return out.getvalue(), {"drawn": drawn(self)}


def own_axes(owner, ax, shape, square=True):
    """The axes given, or one on a new figure of a fitting size."""
    if ax is None:
        return Picture(figsize=fitting(shape, square), layout="constrained").subplots()
    if not isinstance(ax, Axes):
        raise OptionError(f"{owner}: ax must be a matplotlib Axes; got {type(ax).__name__}")
    lay_out(ax, (type(None),))
    return ax


def even(square, shape):
    """Whether cells are drawn as squares: not where the matrix would be a mere line."""
    return bool(square) and max(shape) <= THINNEST * min(shape)


def fitting(shape, square=True):
    """Inches for one matrix: up to 0.45 a cell, 6.5 for the longer side, 2 for the shorter at least."""
    rows, columns = shape
    unit = min(0.45, 6.5 / max(rows, columns))
    if even(square, shape) is False and square:
        return (8.4, 2.9) if columns > rows else (4.9, 7.8)
    return max(3.0, columns * unit) + 1.9, max(1.6, rows * unit) + 1.3


def own_figure(owner, figure, width, height):
    """The figure or subfigure given, or a new one."""
    if figure is None:
        return Picture(figsize=(width, height), layout="constrained")
    if not isinstance(figure, (Figure, SubFigure)):
        raise OptionError(f"{owner}: figure must be a Figure or a SubFigure; got {type(figure).__name__}")
    lay_out(figure, (type(None), TightLayoutEngine))
    return figure


def lay_out(owner, instead_of):
    """Give a figure without a layout one that leaves room for colorbars; a tight layout has none for a shared one."""
    if isinstance(root(owner).get_layout_engine(), instead_of):
        root(owner).set_layout_engine("constrained")


def root(owner):
    """The figure that an axes, a subfigure or a figure belongs to in the end."""
    figure = owner if isinstance(owner, (Figure, SubFigure)) else owner.figure
    return figure.canvas.figure


def tell(ax, words):
    """Keep what an axes shows, in words, for whoever cannot see it."""
    ax.alt_text = words
    return ax


def alt_text(figure):
    """What a figure shows, in words: the descriptions of its axes."""
    return "\n".join(ax.alt_text for ax in root(figure).axes if hasattr(ax, "alt_text"))


def drawn(figure):
    """The data of every axes but colorbars in three numbers: how many, their sum, and one that depends on their order.

    Fonts, colors and the version of Matplotlib do not change them.
    """
    found = [numbers(ax) for ax in root(figure).axes if ax.get_label() != "<colorbar>"]
    return [[len(x), shortened(x.sum()), shortened(x @ np.cos(np.arange(len(x))))] for x in found]


def shortened(x):
    return float(f"{x:.6g}")


def numbers(ax):
    """Every finite number that images, lines, bars and collections of an axes draw, in a row."""
    parts = [np.ma.getdata(image.get_array()) for image in ax.images]
    parts += [line.get_xydata() for line in ax.lines]
    parts += [patch.get_patch_transform().transform(patch.get_path().vertices) for patch in ax.patches]
    for collection in ax.collections:
        parts += [path.vertices for path in collection.get_paths()]
        parts += [collection.get_offsets()] + [x for x in [collection.get_array()] if x is not None]
    row = np.concatenate([np.ravel(np.ma.getdata(part)).astype(float) for part in parts] or [np.zeros(0)])
    return row[np.isfinite(row)]


def save(figure, path, format=None, *, alt=None, dpi=None):
    """Write a figure, with its description in the metadata; the same array gives the same bytes.

    `path` may be a file object, then `format` says which of png, svg and pdf.
    """
    figure = root(figure) if isinstance(figure, (Figure, SubFigure, Axes)) else figure
    if not isinstance(figure, Figure):
        raise OptionError(f"save: the first argument must be a figure or an axes; got {type(figure).__name__}")
    if format is None:
        if not isinstance(path, (str, PathLike)):
            raise OptionError(f"save: a file object has no ending; give format=, one of {', '.join(FORMATS)}")
        format = Path(path).suffix.lstrip(".").lower()
    if format not in FORMATS:
        raise OptionError(f"save: cannot write {format!r}; png, svg and pdf can be written (plot.training writes gif)")
    words = alt_text(figure) if alt is None else alt
    with rc_context({"svg.hashsalt": SALT, "pdf.compression": 6}):
        figure.savefig(
            path, format=format, dpi=dpi or "figure", bbox_inches="tight", pad_inches=0.08,
            metadata=metadata(format, words),
        )  # fmt: skip


def metadata(format, words):
    title = words.partition("\n")[0]
    if format == "png":
        return {"Software": SALT, "Description": words}
    if format == "svg":
        return {"Date": None, "Creator": SALT, "Title": title, "Description": words}
    return {"CreationDate": None, "ModDate": None, "Creator": SALT, "Producer": SALT, "Title": title, "Subject": words}
