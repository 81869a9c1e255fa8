"""Fonts for tokens of any script: what the default font lacks is looked for among the installed ones.

A character that no installed font has is written as its code point, U+4E2D, so that tokens stay distinct; one warning
names what to install.
"""

import unicodedata
import warnings
from functools import lru_cache

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

PREFERRED = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Microsoft YaHei",
)
UNFIT = ("last resort", "color", "adobe blank", "unifont upper csur")
INSTALL = (
    (
        ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "FULLWIDTH", "IDEOGRAPHIC"),
        "Noto Sans CJK (fonts-noto-cjk)",
    ),
    (("ARABIC", "HEBREW", "SYRIAC", "THAANA"), "Noto Sans Arabic and Hebrew (fonts-noto-core)"),
)
SYMBOLS, OTHERS = "Noto Emoji or Symbola (fonts-symbola)", "Noto Sans (fonts-noto-core)"


@lru_cache(maxsize=64)
def charmap(path):
    """The code points a font file has; none if it cannot be drawn at any size."""
    try:
        font = FT2Font(path)
    except (RuntimeError, OSError):
        return frozenset()
    return frozenset(font.get_charmap()) if font.scalable else frozenset()


def default_families():
    return font_manager.FontProperties().get_family()


def default_path():
    return font_manager.findfont(font_manager.FontProperties())


def candidates():
    """(family, path) of every installed upright font of regular weight, the preferred first."""
    fonts = [f for f in font_manager.fontManager.ttflist if not any(word in f.name.lower() for word in UNFIT)]
    fonts = [f for f in fonts if f.style == "normal" and str(f.weight) in ("400", "normal", "regular", "book", "500")]
    rank = {name: at for at, name in enumerate(PREFERRED)}
    return sorted({(f.name, f.fname) for f in fonts}, key=lambda f: (rank.get(f[0], len(rank)), f))


class Fonts:
    """The families that draw a set of texts, and the characters that none of them has."""

    def __init__(self, owner, texts):
        lacking = {c for text in texts for c in text if c > "~"} - chars(default_path())
        self.families, self.paths = list(default_families()), [default_path()]
        for family, path in candidates() if lacking else ():
            found = lacking & chars(path)
            if found:
                self.families.append(family)
                self.paths.append(path)
                lacking -= found
            if not lacking:
                break
        self.lacking = lacking
        if lacking:
            warn(owner, sorted(lacking))

    def write(self, text):
        """The text with every character that no font has as its code point."""
        return "".join(f"U+{ord(c):04X}" if c in self.lacking else c for c in text)

    def width(self, text):
        """The width of a text in ems."""
        return sum(self.advance(c) for c in self.write(text))

    def advance(self, char):
        path = next((path for path in self.paths if ord(char) in charmap(path)), None)
        return 1.0 if path is None else advance(path, char)


def chars(path):
    return {chr(code) for code in charmap(path)}


@lru_cache(maxsize=4096)
def advance(path, char):
    font = FT2Font(path)
    font.set_size(100, 72)
    return font.load_char(ord(char)).linearHoriAdvance / 65536 / 100


def warn(owner, lacking):
    names = [unicodedata.name(c, "") for c in lacking]
    packages = []
    for char, name in zip(lacking, names, strict=True):
        match = next((package for words, package in INSTALL if name.startswith(words)), None)
        packages.append(match or (SYMBOLS if unicodedata.category(char) == "So" else OTHERS))
    examples = " ".join(lacking[:5]) + (" …" if len(lacking) > 5 else "")
    warnings.warn(
        f"{owner}: no installed font has {examples}; they are written as code points. "
        f"Install {' and '.join(dict.fromkeys(packages))}",
        stacklevel=2,
    )
