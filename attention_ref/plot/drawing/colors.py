"""Colors: the maps, the norms, and black or white on top of them.

Both maps grow steadily in luminance, so that they order the same way in gray and for every kind of color vision.
"""

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, to_rgba

from attention_ref.errors import OptionError
from attention_ref.plot.drawing import checks

SEQUENTIAL = "cividis"
SIGNED = LinearSegmentedColormap.from_list(
    "signed", ["#06164f", "#26499d", "#8b8b8b", "#e0b040", "#fff27a"], N=513
).with_extremes(under="#000000", over="#ffffff")
MASK_FILL, MASK_INK = "#e4e4e4", "#7a7a7a"
DEAD_FILL, DEAD_INK = "#ffffff", "#444444"
NAN_FILL, NAN_INK = "#ffffff", "#c1272d"
LEAK_INK = "#ff3b30"


def colormap(owner, cmap):
    """A colormap whose missing cells are transparent and whose out-of-range cells stand out."""
    if not isinstance(cmap, Colormap):
        if cmap not in colormaps:
            raise OptionError(f"{owner}: there is no colormap {cmap!r}; matplotlib.colormaps lists them")
        cmap = colormaps[cmap]
    if cmap.name == SEQUENTIAL:
        cmap = cmap.with_extremes(under="#000000", over="#ff9ecf")
    return cmap.with_extremes(bad=(0, 0, 0, 0))


def scale(owner, norm, vmin, vmax, grids):
    """One norm for all the grids: as given, or from vmin to vmax, an open end taken from the data."""
    if norm is not None:
        if not isinstance(norm, Normalize):
            raise OptionError(f"{owner}: norm must be a matplotlib.colors.Normalize; got {type(norm).__name__}")
        norm.autoscale_None([end for grid in grids if grid.peak for end in (grid.low, grid.peak[0])])
        return norm
    drawn = [end for grid in grids if grid.peak for end in (grid.low, grid.peak[0])] or [0.0, 1.0]
    low = min(drawn) if vmin is None else checks.end(owner, "vmin", vmin)
    high = max(drawn) if vmax is None else checks.end(owner, "vmax", vmax)
    if low < high:
        return Normalize(low, high)
    if vmin is not None and vmax is not None:
        raise OptionError(f"{owner}: vmin={vmin} must be below vmax={vmax}")
    return Normalize(low, low + 1) if vmax is None else Normalize(high - 1, high)


def zero_centered(owner, grids, vmax=None):
    """A norm from -m to m; m is the largest magnitude drawn unless given."""
    if vmax is not None and not checks.end(owner, "vmax", vmax) > 0:
        raise OptionError(f"{owner}: vmax={vmax} must be above 0; the scale goes from -vmax to vmax")
    ends = [abs(end) for grid in grids if grid.peak for end in (grid.low, grid.peak[0])]
    m = max(ends, default=0.0) if vmax is None else vmax
    return Normalize(-m, m) if m > 0 else Normalize(-1, 1)


def snapped(values, norm):
    """What lies beyond an end of the scale by no more than rounding does, a thousandth of it, is at the end."""
    low, high = norm.vmin, norm.vmax
    slack = 1e-3 * (high - low)
    values = np.ma.where((values > high) & (values <= high + slack), high, values)
    return np.ma.where((values < low) & (values >= low - slack), low, values)


def extend(norm, grids):
    """Which ends of the colorbar are passed by some value."""
    under = any(snapped(grid.low, norm) < norm.vmin for grid in grids)
    over = any(snapped(grid.peak[0], norm) > norm.vmax for grid in grids if grid.peak)
    return {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[int(under), int(over)]


def luminance(color):
    """The relative luminance of a color, 0 for black to 1 for white (WCAG)."""
    rgb = np.asarray(to_rgba(color))[:3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def ink(color):
    """Black or white, whichever has the larger contrast on `color`."""
    lum = luminance(color)
    return "black" if (lum + 0.05) / 0.05 > 1.05 / (lum + 0.05) else "white"
