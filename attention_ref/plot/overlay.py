"""A query's attention over the patches of an image."""

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize

from attention_ref.errors import ShapeError
from attention_ref.plot.drawing import checks, colors
from attention_ref.plot.drawing.cells import add_colorbar
from attention_ref.plot.drawing.figures import Picture, own_axes, set_alt_text
from attention_ref.plot.drawing.legend import draw_states, handles, put_legend
from attention_ref.plot.drawing.reduction import make_grid

INK = LinearSegmentedColormap.from_list("ink", ["#4b008200", "#3a0064f2"])  # from transparent to a dark violet
PALEST = 0.55  # what black becomes in the print of the image: above it, so that dark means attention


def overlay(
    image: npt.ArrayLike,
    alpha: npt.ArrayLike,
    grid: int | tuple[int, int] | None = None,
    *,
    smooth: bool = False,
    vmin: float | None = 0,
    vmax: float | None = None,
    cmap: str | Colormap = INK,
    ax: Axes | None = None,
    title: str | None = None,
    cbar: bool = True,
) -> Axes:
    """One query's weights over the patches of an image, as ink over a pale gray print of it.

    `alpha` has a weight for each patch, row by row, as (patches,) or (rows, columns); leave special tokens such as CLS
    out. `grid` is (rows, columns) of patches; None: as many rows as columns. The scale ends at the largest weight
    unless `vmax` says otherwise. `smooth` blurs between the patches, and the plot says so.
    """
    picture = PALEST + (1 - PALEST) * gray(image)
    weights = patches(alpha, grid)
    cells = make_grid(weights, kind="plain", limits=weights.shape)
    rows, columns = weights.shape
    ax = new_axes(*picture.shape) if ax is None else own_axes("overlay", ax, weights.shape)
    cmap, norm = colors.colormap("overlay", cmap), colors.scale("overlay", None, vmin, vmax, [cells])
    ax.imshow(picture, cmap="gray", norm=Normalize(0, 1), extent=cells.extent, interpolation="antialiased")
    interpolation = "bilinear" if smooth else "nearest"
    ink = ax.imshow(cells.colored, cmap=cmap, norm=norm, extent=cells.extent, interpolation=interpolation)
    draw_states(ax, cells)
    ax.set(xticks=[], yticks=[], title=title, aspect=picture.shape[0] / rows / (picture.shape[1] / columns))
    notes = [f"{rows} × {columns} patches hold {cells.sums.sum():.0%} of the query's attention"]
    if smooth:
        notes.append("smoothed between patches")
    ax.set_xlabel("\n".join(notes), fontsize="small")
    if cbar:
        add_colorbar(ax, ink, norm, [cells], "weight α")
    put_legend(ax, handles([cells], cmap, norm))
    sentence = f"Attention over {rows} by {columns} patches of an image"
    if cells.peak:
        sentence += f"; the largest, {cells.peak.value:.3g}, in row {cells.peak.row}, column {cells.peak.column}"
    return set_alt_text(ax, f"{sentence}.")


def gray(image: Any) -> np.ndarray:
    """An image as gray from 0 to 1, from (height, width) or (height, width, 3 or 4), integers being 0 to 255."""
    picture = np.asarray(image)
    is_gray = picture.ndim == 2
    is_color = picture.ndim == 3 and picture.shape[-1] in (3, 4)
    if picture.dtype.kind not in "fiu" or not (is_gray or is_color):
        raise ShapeError(
            f"overlay: image must be (height, width) or (height, width, 3 or 4) numbers; got {picture.dtype} of "
            f"shape {picture.shape}"
        )
    picture = picture / 255 if picture.dtype.kind in "iu" else picture
    if is_color:
        picture = picture[..., :3] @ (0.299, 0.587, 0.114)  # luma, ITU-R BT.601
    return np.clip(picture, 0, 1)


def patches(alpha: Any, grid: Any) -> np.ndarray:
    """The weights as (rows, columns)."""
    weights = checks.real("overlay", "alpha", alpha)
    if weights.ndim == 2 and grid is None:
        grid = weights.shape
    if weights.ndim not in (1, 2) or not weights.size:
        raise ShapeError(
            f"overlay: alpha must be one query's weights, (patches,); got shape {weights.shape}; choose alpha[i]"
        )
    if grid is None:
        side = round(weights.size**0.5)
        grid = (side, side)
    rows, columns = checks.pair("overlay", "grid", grid)
    if rows * columns != weights.size:
        raise ShapeError(
            f"overlay: {weights.size} weights do not fill a grid of {rows} × {columns} patches; give "
            f"grid=(rows, columns), and leave special tokens out, alpha[i, 1:]"
        )
    return weights.reshape(rows, columns)


def new_axes(height: int, width: int) -> Axes:
    """Axes of the image's proportions, 4.5 inches for the longer side; beside it the colorbar, below it the notes."""
    pixel = 4.5 / max(height, width)
    return Picture(figsize=(width * pixel + 1.3, height * pixel + 0.8), layout="constrained").subplots()
