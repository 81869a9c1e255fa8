"""A query's attention over the patches of an image."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, Normalize

from attention_ref.errors import ShapeError
from attention_ref.plot.drawing import checks, colors
from attention_ref.plot.drawing.cells import add_colorbar
from attention_ref.plot.drawing.figures import Picture, own_axes, tell
from attention_ref.plot.drawing.legend import draw_states, handles, put_legend
from attention_ref.plot.drawing.reduction import make_grid

INK = LinearSegmentedColormap.from_list("ink", ["#4b008200", "#3a0064f2"])
PALEST = 0.55


def overlay(image, alpha, grid=None, *, smooth=False, vmin=0, vmax=None, cmap=INK, ax=None, title=None, cbar=True):
    """One query's weights over the patches of an image, as ink over a pale gray print of it.

    `alpha` has a weight for each patch, row by row, as (patches,) or (rows, columns); leave special tokens such as CLS
    out. `grid` is (rows, columns) of patches, a square unless given. The scale ends at the largest weight unless `vmax`
    says otherwise. `smooth` blurs between the patches, and the plot says so.
    """
    picture = PALEST + (1 - PALEST) * gray(image)
    weights = patches(alpha, grid)
    cells = make_grid(weights, kind="plain", limits=weights.shape)
    rows, columns = weights.shape
    ax = new_axes(*picture.shape) if ax is None else own_axes("overlay", ax, weights.shape)
    cmap, norm = colors.colormap("overlay", cmap), colors.scale("overlay", None, vmin, vmax, [cells])
    ax.imshow(picture, cmap="gray", norm=Normalize(0, 1), extent=cells.extent, interpolation="antialiased")
    over = ax.imshow(
        cells.shown, cmap=cmap, norm=norm, extent=cells.extent, interpolation="bilinear" if smooth else "nearest"
    )
    draw_states(ax, cells)
    ax.set(xticks=[], yticks=[], title=title, aspect=picture.shape[0] / rows / (picture.shape[1] / columns))
    notes = [f"{rows} × {columns} patches hold {cells.sums.sum():.0%} of the query's attention"]
    ax.set_xlabel("\n".join(notes + ["smoothed between patches"] * bool(smooth)), fontsize="small")
    if cbar:
        add_colorbar(ax, over, norm, [cells], "weight α")
    put_legend(ax, handles([cells], cmap, norm))
    value, r, c = cells.peak or (0, 0, 0)
    most = f"the largest, {value:.3g}, in row {-r}, column {-c}"
    return tell(ax, f"Attention over {rows} by {columns} patches of an image; {most}.")


def gray(image):
    """An image as gray from 0 to 1, from (height, width) or (height, width, 3 or 4), integers being 0 to 255."""
    picture = np.asarray(image)
    if (
        picture.dtype.kind not in "fiu"
        or picture.ndim not in (2, 3)
        or (picture.ndim == 3 and picture.shape[-1] not in (3, 4))
    ):
        raise ShapeError(
            f"overlay: image must be (height, width) or (height, width, 3 or 4) numbers; got {picture.dtype} of "
            f"shape {picture.shape}"
        )
    picture = picture / 255 if picture.dtype.kind in "iu" else picture
    return np.clip(picture if picture.ndim == 2 else picture[..., :3] @ (0.299, 0.587, 0.114), 0, 1)


def patches(alpha, grid):
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


def new_axes(height, width):
    side = 4.5 / max(height, width)
    return Picture(figsize=(width * side + 1.3, height * side + 0.8), layout="constrained").subplots()
