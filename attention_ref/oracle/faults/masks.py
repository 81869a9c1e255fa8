"""Mistakes about who may attend to whom: alignment, causal, windows, lengths, segments, dense masks, empty rows."""

import numpy as np

from attention_ref.oracle.faults.kernel import Kernel, catalog

LARGE = -0.7 * float(np.finfo(np.float32).max)


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


class MasksForgotten(Kernel):
    """every mask ignored"""

    also_alone = True

    def allowed(self):
        return None


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


class LengthsIgnored(Kernel):
    """the lengths ignored"""

    also_alone = True

    def understood(self, options):
        return without(options, "q_lengths", "k_lengths")


class QLengthsIgnored(Kernel):
    """q_lengths ignored"""

    def allowed(self):
        real = {"align": self.placed(self.options).offset} if "q_lengths" in self.options else {}
        return self.placed(without(self.options, "q_lengths") | real).allowed


class LengthsLastIndex(Kernel):
    """k_lengths taken for the last index instead of a count"""

    more = 1

    def allowed(self):
        if "k_lengths" not in self.options:
            return super().allowed()
        keys = self.arrays["v"].shape[-2]
        moved = {"k_lengths": np.clip(self.options["k_lengths"] + self.more, 0, keys)}
        return self.placed(self.options | moved | {"align": self.placed(self.options).offset}).allowed


class LengthsOneShort(LengthsLastIndex):
    """k_lengths one too short"""

    more = -1


class LengthsOfFirstEntry(Kernel):
    """the first batch entry's k_lengths used for all"""

    def understood(self, options):
        return options | {"k_lengths": options["k_lengths"][:1]} if np.ndim(options.get("k_lengths")) else options


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


class MaskIgnored(Kernel):
    """the mask ignored"""

    also_alone = True

    def understood(self, options):
        return without(options, "allowed")


class MaskInverted(Kernel):
    """the mask inverted, True = masked out"""

    def understood(self, options):
        return options | {"allowed": ~options["allowed"]} if "allowed" in options else options


class MaskOfFirstHead(Kernel):
    """the first head's mask used for all"""

    def understood(self, options):
        allowed = options.get("allowed")
        return options | {"allowed": allowed[..., :1, :, :]} if np.ndim(allowed) > 2 else options


class MaskOfFirstEntry(Kernel):
    """the first batch entry's mask used for all"""

    def understood(self, options):
        allowed = options.get("allowed")
        return options | {"allowed": allowed[:1]} if np.ndim(allowed) > 3 else options


class MaskReplacedByCausal(Kernel):
    """with causal, the mask ignored"""

    def understood(self, options):
        return without(options, "allowed") if "causal" in options else options


class MaskAsNumber(Kernel):
    """the boolean mask added to the scores as 0 and 1"""

    def selected(self, s, allowed):
        return s + allowed.astype(s.dtype)


class MaskAdded(Kernel):
    """the mask added as 0 and -inf, so that NaN behind it leaks"""

    def clean(self, name, x):
        return x

    def selected(self, s, allowed):
        return s + np.where(allowed, s.dtype.type(0), s.dtype.type(-np.inf))


class EmptyRowUniform(Kernel):
    """a row with nothing allowed gets uniform weights, from a large finite number in place of -inf"""

    fill = LARGE

    def weights(self, s, lse):
        e = np.exp(s - s.max(axis=-1, keepdims=True))
        empty = (s == s.dtype.type(self.fill)).all(axis=-1, keepdims=True)
        return np.where(empty, e / e.sum(axis=-1, keepdims=True), super().weights(s, lse))


class FillMinus10000(EmptyRowUniform):
    """-10000 in place of -inf"""

    fill = -1e4


class EmptyRowNan(Kernel):
    """a row with nothing allowed gives NaN"""

    def divided(self, acc, z):
        return acc / z[..., None]

    def weights(self, s, lse):
        return self.exp(s - lse[..., None])


class EmptyRowNanLse(EmptyRowNan):
    """a row with nothing allowed gives NaN, in lse as well"""

    def logarithm(self, m, z):
        return np.where(z == 0, np.nan, super().logarithm(m, z))


class EmptyRowLseZero(Kernel):
    """lse = 0 in a row with nothing allowed"""

    def logarithm(self, m, z):
        return np.where(z == 0, 0, super().logarithm(m, z))


CATALOG = [mistake for mistake in catalog(globals()) if mistake not in (Banded, CausalBand, WindowBand)]
