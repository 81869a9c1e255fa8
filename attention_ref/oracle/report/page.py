"""A page of text, 100 columns wide."""

import os
import sys
from textwrap import wrap

WIDTH = 100
HELD = "\xa0"  # a space at which no line is broken
COLORS = {"pass": 32, "known": 33, "fail": 31, "error": 31, "nondeterministic": 35, "suspicious": 33, "unsupported": 36}


def on_terminal():
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


class Page:
    """Lines of a page; `paint` colors a text if the page is colored."""

    def __init__(self, color):
        self.color, self.lines = color, []

    def paint(self, text, verdict):
        return f"\x1b[{COLORS[verdict]}m{text}\x1b[0m" if self.color else text

    def add(self, text="", indent=0, hang=None, label="", verdict=""):
        """A paragraph, wrapped; further lines are indented by `hang`.

        A `label` stands before the text, in the color of `verdict`, which counts for no width.
        """
        first, rest = " " * indent + label, " " * (indent if hang is None else hang)
        lines = wrap(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
        if label and lines:
            lines[0] = " " * indent + self.paint(label, verdict) + lines[0][len(first) :]
        self.lines += [line.replace(HELD, " ") for line in lines] or [""]

    def raw(self, line):
        self.lines.append(line)


def held(text):
    """The text as one word to `Page.add`."""
    return text.replace(" ", HELD)
