"""Token labels: shown as they are, cut when long, and thinned at drawing time until none overlap."""

import unicodedata
from bisect import bisect_left
from typing import Any

from matplotlib import ft2font
from matplotlib.ticker import Formatter, Locator

from attention_ref.plot.drawing import checks
from attention_ref.plot.drawing.fonts import Fonts

LONGEST = 16
LINE = 1.4
STEPS = sorted(m * 10**e for e in range(7) for m in (1, 2, 5))
NAMED = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
SHAPES_ITSELF = hasattr(ft2font, "__libraqm_version__")


def shown(text, longest=LONGEST):
    """A token in which everything can be seen: spaces at its ends as ␣, control characters as escapes, cut with …"""
    core = text.strip(" ")
    if not core:
        text = "␣" * len(text) or "''"
    else:
        before = len(text) - len(text.lstrip(" "))
        text = "␣" * before + core + "␣" * (len(text) - before - len(core))
    text = "".join(visible(c) for c in text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def visible(char):
    if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Cn", "Co") or (char.isspace() and char != " "):
        code = ord(char)
        return NAMED.get(char) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
    return char


def in_order(text):
    """The order to draw in: a Matplotlib that does not shape text draws right-to-left letters from left to right."""
    if SHAPES_ITSELF or not any(unicodedata.bidirectional(c) in ("R", "AL") for c in text):
        return text
    return text[::-1]


def literal(artist, fonts=None):
    """Make a text artist draw its string as it is: no mathematics, no TeX, in fonts that have its characters."""
    artist.set_parse_math(False)
    artist.set_usetex(False)
    if fonts is not None:
        artist.set_fontfamily(fonts.families)
    return artist


class Labels:
    """What one axis says: a text for each index, or the index itself."""

    def __init__(self, owner, texts, count, fonts=None):
        self.count = count
        if texts is None:
            self.tokens, self.fonts = False, None
            self.widest = 0.68 * len(str(count - 1))
        else:
            self.tokens = True
            texts = [shown(text) for text in texts]
            self.fonts = fonts or Fonts(owner, texts)
            self.texts = [in_order(self.fonts.write(text)) for text in texts]
            self.widest = max(self.fonts.width(text) for text in texts)

    def __getitem__(self, at):
        return self.texts[at] if self.tokens else str(at)


class Thinned(Locator):
    """Ticks at every first, second, fifth, tenth … index: the closest at which no two labels overlap.

    Evaluated at drawing time, so it holds at any size. It prepares the tick labels that it asks for.
    """

    axis: Any

    def __init__(self, labels, step=None):
        self.labels, self.fixed = labels, step

    def __call__(self):
        low, high = sorted(self.axis.get_view_interval())
        step = self.fixed or self.step(high - low)
        at = [i for i in range(0, self.labels.count, step) if low <= i <= high]
        for tick in self.axis.get_major_ticks(len(at)):
            for label in (tick.label1, tick.label2):
                literal(label, self.labels.fonts)
                if self.axis.axis_name == "x":
                    label.set_rotation(90 if self.turned(high - low) else 0)
        return at

    def tick_values(self, vmin, vmax):
        return self()

    def step(self, span):
        needed = self.needed(span) / self.cell(span)
        return STEPS[bisect_left(STEPS, needed)]

    def needed(self, span):
        """The room, in pixels, that one label takes along its axis."""
        if self.axis.axis_name == "y" or self.turned(span):
            return (LINE if self.labels.tokens else 2 * LINE) * self.em()
        return (self.labels.widest + (0.6 if self.labels.tokens else 1.2)) * self.em()

    def turned(self, span):
        """Tokens that do not fit side by side stand upright."""
        return self.labels.tokens and (self.labels.widest + 0.6) * self.em() > self.cell(span)

    def cell(self, span):
        box = self.axis.axes.get_window_extent()
        length = box.width if self.axis.axis_name == "x" else box.height
        return max(length, 1.0) / max(span, 1e-9)

    def em(self):
        return self.axis.get_major_ticks(1)[0].label1.get_size() * self.axis.axes.figure.canvas.figure.dpi / 72


class Named(Formatter):
    """The label of an index."""

    def __init__(self, labels):
        self.labels = labels

    def __call__(self, x, pos=None):
        at = round(x)
        return self.labels[at] if 0 <= at < self.labels.count and at == x else ""


def label_axes(owner, ax, labels, shape, ticks=("auto", "auto"), size="small"):
    """Put labels on the axes of a matrix, from (query labels, key labels), in the same fonts; `ticks` are x's, y's."""
    together = [shown(text) for texts in labels for text in texts or ()]
    fonts = Fonts(owner, together) if together else None
    label_axis(owner, ax.xaxis, labels[1], shape[1], ticks[0], size, fonts)
    label_axis(owner, ax.yaxis, labels[0], shape[0], ticks[1], size, fonts)


def label_axis(owner, axis, given, count, ticks="auto", size="small", fonts=None):
    """Put labels on one axis; `ticks` is "auto", True for all, False for none, n for every nth, or a list of labels."""
    what = "columns (keys)" if axis.axis_name == "x" else "rows (queries)"
    name = f"{axis.axis_name}ticklabels"
    if not isinstance(ticks, (str, bool)) and hasattr(ticks, "__iter__"):
        given, ticks, fonts = checks.labels(owner, name, ticks, count, what), "auto", None
    if ticks is False:
        axis.set_ticks([])
        return
    if isinstance(ticks, (str, bool)):
        checks.choice(owner, name, ticks, ("auto", True, False))
        step = 1 if ticks is True else None
    else:
        step = checks.positive(owner, name, ticks)
    labels = Labels(owner, given, count, fonts)
    axis.set_tick_params(labelsize=size, length=2)
    axis.set_major_locator(Thinned(labels, step))
    axis.set_major_formatter(Named(labels))
