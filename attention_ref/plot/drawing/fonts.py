"""Fonts for tokens of any script: what the default font lacks is looked for among the installed ones.

A character that no installed font has is written as its code point, U+4E2D, so that tokens stay distinct; one warning
names what to install.
"""

import unicodedata
import warnings
from functools import lru_cache

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

PREFERRED = ("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei", "PingFang SC")
UNFIT = ("last resort", "color", "adobe blank", "unifont upper csur")
EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "FULLWIDTH", "IDEOGRAPHIC")
RIGHT_TO_LEFT = ("ARABIC", "HEBREW", "SYRIAC", "THAANA")
INSTALL = {
    EAST_ASIAN: "Noto Sans CJK (fonts-noto-cjk)",
    RIGHT_TO_LEFT: "Noto Sans Arabic and Hebrew (fonts-noto-core)",
}
SYMBOLS, OTHERS = "Noto Emoji or Symbola (fonts-symbola)", "Noto Sans (fonts-noto-core)"


@lru_cache(maxsize=64)
def charmap(path):
    """The code points a font file has; none if it cannot be drawn at any size."""
    try:
        font = FT2Font(path)
    except (RuntimeError, OSError):
        return frozenset()
    return frozenset(font.get_charmap()) if font.scalable else frozenset()


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
        odd = frozenset(c for text in texts for c in text if c > "~")
        self.families, self.paths, self.lacking = search(odd, len(font_manager.fontManager.ttflist), default_path())
        if self.lacking:
            warn_once(owner, self.lacking)

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


@lru_cache(maxsize=64)
def search(odd, installed, default):
    """(families, their files, the characters left) for the characters beyond ASCII, as long as no font is added."""
    lacking = odd - chars(default)
    families, paths = list(font_manager.FontProperties().get_family()), [default]
    for family, path in candidates() if lacking else ():
        found = lacking & chars(path)
        if found:
            families.append(family)
            paths.append(path)
            lacking -= found
        if not lacking:
            break
    return families, paths, lacking


@lru_cache(maxsize=64)
def warn_once(owner, lacking):
    """One warning for one set of characters, however many labels and panels show it."""
    warnings.warn(f"{owner}: {advice(sorted(lacking))}", stacklevel=2)


def advice(lacking):
    packages = []
    for char in lacking:
        name = unicodedata.name(char, "")
        match = next((package for words, package in INSTALL.items() if name.startswith(words)), None)
        packages.append(match or (SYMBOLS if unicodedata.category(char) == "So" else OTHERS))
    examples = " ".join(lacking[:5]) + (" …" if len(lacking) > 5 else "")
    return (
        f"no installed font has {examples}; such characters are written as code points. "
        f"Install {' and '.join(dict.fromkeys(packages))}"
    )
