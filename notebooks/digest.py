"""A digest of what a figure draws, stored beside every figure of a notebook: a test compares it after another run.

`run.py` calls `install` before the first cell of a notebook, unseen.
"""

import numpy as np

from attention_ref.plot.drawing.figures import Picture, root_figure


def digest(figure):
    """The data of every axes but colorbars in three numbers: how many, their sum, and one that depends on their order.

    Fonts, colors and the version of Matplotlib do not change them.
    """
    digests = []
    for ax in root_figure(figure).axes:
        if ax.get_label() != "<colorbar>":
            numbers = finite_numbers(ax)
            in_order = numbers @ np.cos(np.arange(len(numbers)))
            digests.append([len(numbers), six_digits(numbers.sum()), six_digits(in_order)])
    return digests


def six_digits(x):
    return float(f"{x:.6g}")


def finite_numbers(ax):
    """Every finite number that images, lines, bars and collections of an axes draw, in a row."""
    parts = [np.ma.getdata(image.get_array()) for image in ax.images]
    parts += [line.get_xydata() for line in ax.lines]
    parts += [patch.get_patch_transform().transform(patch.get_path().vertices) for patch in ax.patches]
    for collection in ax.collections:
        parts += [path.vertices for path in collection.get_paths()]
        parts += [collection.get_offsets()]
        if collection.get_array() is not None:
            parts += [collection.get_array()]
    numbers = np.concatenate([np.zeros(0), *(np.ravel(np.ma.getdata(part)).astype(float) for part in parts)])
    return numbers[np.isfinite(numbers)]


def install():
    """Make figures give their digest to the notebook, as metadata of the image."""
    png = Picture._repr_png_
    Picture._repr_png_ = lambda figure: (png(figure), {"drawn": digest(figure)})
