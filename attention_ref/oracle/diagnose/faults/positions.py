"""Mistakes about positions: alignment, causal masks, windows, segments."""

import numpy as np

from attention_ref.oracle.diagnose.faults.kernel import Kernel, catalog


def without(options, *names):
    return {name: x for name, x in options.items() if name not in names}


class AlignTopLeft(Kernel):
    """align="top_left" """

    also_alone = True
    asked = "align"

    def understood(self, options):
        return options | {"align": "top_left"} if "align" in options else options


class AlignBottomRight(Kernel):
    """align="bottom_right" """

    asked = "align"

    def understood(self, options):
        return options | {"align": "bottom_right"} if "align" in options else options


class AlignByPaddedSizes(Kernel):
    """bottom_right taken from the padded sizes instead of the lengths"""

    def understood(self, options):
        if options.get("align") != "bottom_right":
            return options
        return options | {"align": self.arrays["k"].shape[-2] - self.arrays["q"].shape[-2]}


class OffsetOfFirstEntry(Kernel):
    """the first batch entry's offset used for all"""

    def understood(self, options):
        align = options.get("align")
        return options | {"align": align[:1]} if isinstance(align, np.ndarray) and align.ndim else options


class AlignOneMore(Kernel):
    """the offset one too large"""

    more = 1

    def understood(self, options):
        if "align" not in options and "causal" not in options and "window" not in options:
            return options
        return options | {"align": self.placed(options).offset + self.more}


class AlignOneLess(AlignOneMore):
    """the offset one too small"""

    more = -1


class CausalIgnored(Kernel):
    """causal ignored"""

    also_alone = True

    def understood(self, options):
        return without(options, "causal")


class Banded(Kernel):
    """Masks by how far a key stands behind its query's position."""

    def allowed(self):
        place = self.placed(without(self.options, *self.replaced()))
        band = self.band(place.relative)
        return band if place.allowed is None else place.allowed & band

    def placed(self, options):
        return super().placed(options if "align" in options else options | {"align": self.offset()})

    def offset(self):
        return super().placed(self.options).offset

    def replaced(self):
        return ()

    def band(self, ahead):
        return np.ones(ahead.shape, bool)


class CausalBand(Banded):
    last = 0

    def replaced(self):
        return ("causal",)

    def band(self, ahead):
        return ahead <= self.last if "causal" in self.options else super().band(ahead)


class CausalStrict(CausalBand):
    """causal as j < i, without the query's own key"""

    last = -1


class CausalOneMore(CausalBand):
    """causal as j <= i + 1, one key too many"""

    last = 1


class CausalReversed(CausalBand):
    """causal the other way round, j >= i"""

    def band(self, ahead):
        return ahead >= 0 if "causal" in self.options else super().band(ahead)


class WindowIgnored(Kernel):
    """the window ignored"""

    also_alone = True

    def understood(self, options):
        return without(options, "window")


class WindowBand(Banded):
    def replaced(self):
        return ("window",)

    def sides(self, left, right):
        return left, right

    def band(self, ahead):
        left, right = self.sides(*self.options.get("window", (None, None)))
        inside = np.ones(ahead.shape, bool) if left is None else ahead >= -left
        return inside if right is None else inside & (ahead <= right)


class WindowLeftShort(WindowBand):
    """the window's left side one key short, as a total width or an exclusive limit would be"""

    def sides(self, left, right):
        return None if left is None else left - 1, right


class WindowLeftLong(WindowBand):
    """the window's left side one key too long"""

    def sides(self, left, right):
        return None if left is None else left + 1, right


class WindowRightShort(WindowBand):
    """the window's right side one key short"""

    def sides(self, left, right):
        return left, None if right is None else right - 1


class WindowRightLong(WindowBand):
    """the window's right side one key too long"""

    def sides(self, left, right):
        return left, None if right is None else right + 1


class WindowBothShort(WindowBand):
    """the window one key short on both sides"""

    def sides(self, left, right):
        return None if left is None else left - 1, None if right is None else right - 1


class WindowSwapped(WindowBand):
    """the window's left and right side exchanged"""

    def sides(self, left, right):
        return right, left


class WindowNoneIsZero(WindowBand):
    """the window's None taken for 0 instead of unlimited"""

    def sides(self, left, right):
        if left is None and right is None:
            return None, None
        return left or 0, right or 0


class WindowTotalWidth(WindowBand):
    """the window's counts taken for a total width, half on each side"""

    def sides(self, left, right):
        if left is None or right is None:
            return left, right
        half = (left + right) // 2
        return half, left + right - half


class SegmentsIgnored(Kernel):
    """the segments ignored"""

    also_alone = True

    def understood(self, options):
        return without(options, "q_segments", "k_segments")


class SegmentsBefore(Banded):
    """queries attend to the segments before their own as well"""

    def replaced(self):
        return ("q_segments", "k_segments")

    def band(self, ahead):
        if "q_segments" not in self.options:
            return super().band(ahead)
        there = self.options["k_segments"][..., None, :]
        return (there <= self.options["q_segments"][..., :, None]) & (there >= 0)


CATALOG = [mistake for mistake in catalog(globals()) if mistake not in (Banded, CausalBand, WindowBand)]
