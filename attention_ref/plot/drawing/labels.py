"""Token labels: nothing in them is invisible, long ones are cut, and only as many are drawn as do not overlap."""

import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib import ft2font
from matplotlib.axes import Axes
from matplotlib.text import Text
from matplotlib.ticker import Formatter, Locator

from attention_ref.op.words import printable
from attention_ref.plot.drawing import checks
from attention_ref.plot.drawing.fonts import Fonts

LONGEST = 16  # characters: longer than most words of most tokenizers, and an inch and a half at the usual size
LINE = 1.4  # ems from one line of text to the next
GAP = 0.6  # ems between two labels beside each other: about two spaces
DIGIT = 0.68  # ems of a digit: a little more than the 0.64 of DejaVu Sans
STEPS = sorted(m * 10**e for e in range(7) for m in (1, 2, 5))  # of labels, as people count
SHAPES_ITSELF = hasattr(ft2font, "__libraqm_version__")  # Matplotlib from 3.11 on


def visible_token(text: str, longest: int = LONGEST) -> str:
    """A token in which everything can be seen: spaces at its ends as ␣, control characters as escapes, cut with …"""
    core = text.strip(" ")
    if not core:
        text = "␣" * len(text) or "''"
    else:
        before = len(text) - len(text.lstrip(" "))
        text = "␣" * before + core + "␣" * (len(text) - before - len(core))
    text = printable(text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def in_order(text: str) -> str:
    """The order to draw in: a Matplotlib that does not shape text draws right-to-left letters from left to right."""
    if SHAPES_ITSELF or not any(unicodedata.bidirectional(c) in ("R", "AL") for c in text):
        return text
    return text[::-1]


def make_literal(artist: Text, fonts: Fonts | None = None) -> Text:
    """Make a text artist draw its string as it is: no mathematics, no TeX, in fonts that have its characters."""
    artist.set_parse_math(False)
    artist.set_usetex(False)
    if fonts is not None:
        artist.set_fontfamily(fonts.families)
    return artist


class Labels:
    """The labels of one axis: a text for each index, or the index itself."""

    def __init__(self, owner: str, texts: Iterable[str] | None, count: int, fonts: Fonts | None = None):
        self.count = count
        self.tokens = texts is not None
        self.fonts = None
        self.texts: list[str] = []
        if texts is None:
            self.widest = DIGIT * len(str(count - 1))
        else:
            texts = [visible_token(text) for text in texts]
            self.fonts = fonts or Fonts(owner, texts)
            self.texts = [in_order(self.fonts.write(text)) for text in texts]
            self.widest = max(self.fonts.width(text) for text in texts)

    def __getitem__(self, index: int) -> str:
        return self.texts[index] if self.tokens else str(index)


class Thinned(Locator):
    """Ticks at every first, second, fifth, tenth … index: the closest at which no two labels overlap.

    Evaluated at drawing time, so it holds at any size. It prepares the tick labels that it asks for.
    """

    axis: Any

    def __init__(self, labels: Labels, step: int | None = None):
        self.labels, self.fixed_step = labels, step

    def __call__(self) -> list[int]:  # type: ignore[override]
        low, high = sorted(self.axis.get_view_interval())
        step = self.fixed_step or self.step(high - low)
        ticks = [i for i in range(0, self.labels.count, step) if low <= i <= high]
        for tick in self.axis.get_major_ticks(len(ticks)):
            for label in (tick.label1, tick.label2):
                make_literal(label, self.labels.fonts)
                if self.axis.axis_name == "x":
                    label.set_rotation(90 if self.turned(high - low) else 0)
        return ticks

    def tick_values(self, vmin: float, vmax: float) -> list[int]:  # type: ignore[override]
        return self()

    def step(self, span: float) -> int:
        """The least of STEPS at which a label has the pixels that it needs; `span` is the axis in cells."""
        return STEPS[bisect_left(STEPS, self.needed(span) / self.cell(span))]

    def needed(self, span: float) -> float:
        """The pixels that one label takes along its axis; numbers, which nobody reads one by one, stand wider apart."""
        if self.axis.axis_name == "y" or self.turned(span):
            return (LINE if self.labels.tokens else 2 * LINE) * self.em()
        return (self.labels.widest + (GAP if self.labels.tokens else 2 * GAP)) * self.em()

    def turned(self, span: float) -> bool:
        """Tokens that do not fit side by side stand upright."""
        return self.labels.tokens and (self.labels.widest + GAP) * self.em() > self.cell(span)

    def cell(self, span: float) -> float:
        """The pixels of one cell along the axis."""
        box = self.axis.axes.get_window_extent()
        length = box.width if self.axis.axis_name == "x" else box.height
        return max(length, 1.0) / max(span, 1e-9)

    def em(self) -> float:
        """The pixels of an em of the tick labels."""
        return self.axis.get_major_ticks(1)[0].label1.get_size() * self.axis.axes.figure.canvas.figure.dpi / 72


class Named(Formatter):
    """The label of an index."""

    def __init__(self, labels: Labels):
        self.labels = labels

    def __call__(self, x: float, pos: int | None = None) -> str:
        index = round(x)
        return self.labels[index] if 0 <= index < self.labels.count and index == x else ""


def label_axes(
    owner: str,
    ax: Axes,
    labels: Sequence[Sequence[str] | None],
    shape: Sequence[int],
    ticks: Sequence[Any] = ("auto", "auto"),
    size: str = "small",
) -> None:
    """Put labels on the axes of a matrix, from (query labels, key labels), in the same fonts; `ticks` are x's, y's."""
    all_texts = [visible_token(text) for texts in labels for text in texts or ()]
    fonts = Fonts(owner, all_texts) if all_texts else None
    label_axis(owner, ax.xaxis, labels[1], shape[1], ticks[0], size, fonts)
    label_axis(owner, ax.yaxis, labels[0], shape[0], ticks[1], size, fonts)


def label_axis(
    owner: str,
    axis: Any,
    texts: Sequence[str] | None,
    count: int,
    ticks: Any = "auto",
    size: str = "small",
    fonts: Fonts | None = None,
) -> None:
    """Put labels on one axis; `ticks` is "auto", True for all, False for none, n for every nth, or a list of labels."""
    cells = "columns (keys)" if axis.axis_name == "x" else "rows (queries)"
    name = f"{axis.axis_name}ticklabels"
    if not isinstance(ticks, (str, bool)) and hasattr(ticks, "__iter__"):
        texts, ticks, fonts = checks.labels(owner, name, ticks, count, cells), "auto", None
    if ticks is False:
        axis.set_ticks([])
        return
    if isinstance(ticks, (str, bool)):
        checks.choice(owner, name, ticks, ("auto", True, False))
        step = 1 if ticks is True else None
    else:
        step = checks.positive(owner, name, ticks)
    labels = Labels(owner, texts, count, fonts)
    axis.set_tick_params(labelsize=size, length=2)
    axis.set_major_locator(Thinned(labels, step))
    axis.set_major_formatter(Named(labels))
