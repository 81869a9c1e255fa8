"""Colors: the maps, the norms, and black or white on top of them.

Both maps grow steadily in luminance, so that they order the same way in gray and for every kind of color vision.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, to_rgba

from attention_ref.errors import OptionError
from attention_ref.plot.drawing import checks
from attention_ref.plot.drawing.reduction import Grid

SEQUENTIAL = "cividis"  # Nuñez, Anderton and Renslow (2018): made to look the same with and without color blindness

# blue below 0, yellow above, gray at 0, the luminance growing throughout; 513 colors, so that 0 has one of its own
SIGNED = LinearSegmentedColormap.from_list(
    "signed", ["#06164f", "#26499d", "#8b8b8b", "#e0b040", "#fff27a"], N=513
).with_extremes(under="#000000", over="#ffffff")

# what is not a number: grays, which neither map has; red for what is wrong
MASK_FILL, MASK_INK = "#e4e4e4", "#7a7a7a"
EMPTY_FILL, EMPTY_INK = "#ffffff", "#444444"
NAN_FILL, NAN_INK = "#ffffff", "#c1272d"
LEAK_INK = "#ff3b30"
ROUNDING = 1e-3  # of the scale's length: float16 weights that sum to 1 pass it by less; a quarter of a color's step


def colormap(owner: str, cmap: str | Colormap) -> Colormap:
    """A colormap whose missing cells are transparent and whose out-of-range cells stand out."""
    if not isinstance(cmap, Colormap):
        if cmap not in colormaps:
            raise OptionError(f"{owner}: there is no colormap {cmap!r}; matplotlib.colormaps lists them")
        cmap = colormaps[cmap]
    if cmap.name == SEQUENTIAL:
        cmap = cmap.with_extremes(under="#000000", over="#ff9ecf")
    return cmap.with_extremes(bad=(0, 0, 0, 0))


def extremes(grids: Sequence[Grid]) -> list[float]:
    """The smallest and the largest value of every grid that has values."""
    ends = []
    for grid in grids:
        if grid.peak:
            ends += [grid.low, grid.peak.value]
    return ends


def scale(owner: str, norm: Any, vmin: Any, vmax: Any, grids: Sequence[Grid]) -> Normalize:
    """One norm for all the grids: the caller's, or from vmin to vmax, an open end taken from the data."""
    ends = extremes(grids)
    if norm is not None:
        if not isinstance(norm, Normalize):
            raise OptionError(f"{owner}: norm must be a matplotlib.colors.Normalize; got {type(norm).__name__}")
        norm.autoscale_None(ends)
        return norm
    low = min(ends, default=0.0) if vmin is None else checks.scale_end(owner, "vmin", vmin)
    high = max(ends, default=1.0) if vmax is None else checks.scale_end(owner, "vmax", vmax)
    if low < high:
        return Normalize(low, high)
    if vmin is not None and vmax is not None:
        raise OptionError(f"{owner}: vmin={vmin} must be below vmax={vmax}")
    return Normalize(low, low + 1) if vmax is None else Normalize(high - 1, high)


def zero_centered(owner: str, grids: Sequence[Grid], vmax: Any = None) -> Normalize:
    """A norm from -m to m; m is `vmax`, or the largest magnitude in the grids."""
    if vmax is not None and not checks.scale_end(owner, "vmax", vmax) > 0:
        raise OptionError(f"{owner}: vmax={vmax} must be above 0; the scale goes from -vmax to vmax")
    m = max(map(abs, extremes(grids)), default=0.0) if vmax is None else vmax
    return Normalize(-m, m) if m > 0 else Normalize(-1, 1)


def snapped(values: Any, norm: Any) -> Any:
    """The values, those beyond an end of the scale by no more than ROUNDING moved to the end."""
    low, high = norm.vmin, norm.vmax
    slack = ROUNDING * (high - low)
    values = np.ma.where((values > high) & (values <= high + slack), high, values)
    return np.ma.where((values < low) & (values >= low - slack), low, values)


def extend(norm: Any, grids: Sequence[Grid]) -> str:
    """Which ends of the colorbar some value lies beyond."""
    under = any(snapped(grid.low, norm) < norm.vmin for grid in grids)
    over = any(snapped(grid.peak.value, norm) > norm.vmax for grid in grids if grid.peak)
    if under and over:
        return "both"
    if under:
        return "min"
    return "max" if over else "neither"


def luminance(color: Any) -> float:
    """The relative luminance of a color, 0 for black to 1 for white (WCAG)."""
    rgb = np.asarray(to_rgba(color))[:3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def ink(color: Any) -> str:
    """Black or white, whichever has the larger contrast on `color`; contrast is WCAG's, (L1 + 0.05) / (L2 + 0.05)."""
    lum = luminance(color)
    return "black" if (lum + 0.05) / 0.05 > 1.05 / (lum + 0.05) else "white"
