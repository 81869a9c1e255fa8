"""Fonts for tokens of any script: where the default font lacks a character, an installed one that has it comes next.

Matplotlib draws each character in the first family of a text that has it; which families those are is found here.
A character that no installed font has is written as its code point, U+4E2D, so that tokens stay distinct; one warning
names what to install.
"""

import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from functools import lru_cache

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

PREFERRED = ("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei", "PingFang SC")
UNFIT = ("last resort", "color", "adobe blank", "unifont upper csur")  # boxes, bitmaps and blanks for every character
UPRIGHT = ("400", "normal", "regular", "book", "500")
EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "FULLWIDTH", "IDEOGRAPHIC")
RIGHT_TO_LEFT = ("ARABIC", "HEBREW", "SYRIAC", "THAANA")
INSTALL = {  # by how the Unicode names of the characters begin
    EAST_ASIAN: "Noto Sans CJK (fonts-noto-cjk)",
    RIGHT_TO_LEFT: "Noto Sans Arabic and Hebrew (fonts-noto-core)",
}
SYMBOLS, OTHERS = "Noto Emoji or Symbola (fonts-symbola)", "Noto Sans (fonts-noto-core)"


class Fonts:
    """The families that draw a set of texts, and the characters that none of them has."""

    def __init__(self, owner: str, texts: Iterable[str]):
        beyond_ascii = frozenset(char for text in texts for char in text if char > "~")
        installed = len(font_manager.fontManager.ttflist)  # a part of the cache's key: a font may be added
        self.families, self.paths, self.missing = search(beyond_ascii, installed, default_path())
        if self.missing:
            warn_once(owner, self.missing)

    def write(self, text: str) -> str:
        """The text with every character that no font has as its code point."""
        return "".join(f"U+{ord(char):04X}" if char in self.missing else char for char in text)

    def width(self, text: str) -> float:
        """The width of a text in ems."""
        return sum(advance(self.paths, char) for char in self.write(text))


def default_path() -> str:
    return font_manager.findfont(font_manager.FontProperties())


@lru_cache(maxsize=64)
def search(
    beyond_ascii: frozenset[str], installed: int, default: str
) -> tuple[list[str], tuple[str, ...], frozenset[str]]:
    """(families, their files, the characters that none has)."""
    missing = beyond_ascii - characters(default)
    families, paths = list(font_manager.FontProperties().get_family()), [default]
    for family, path in candidates() if missing else ():
        if missing & characters(path):
            families.append(family)
            paths.append(path)
            missing -= characters(path)
        if not missing:
            break
    return families, tuple(paths), missing


def candidates() -> list[tuple[str, str]]:
    """(family, path) of every installed upright font of regular weight, the preferred first."""
    fonts = set()
    for font in font_manager.fontManager.ttflist:
        fit = not any(word in font.name.lower() for word in UNFIT)
        if fit and font.style == "normal" and str(font.weight) in UPRIGHT:
            fonts.add((font.name, font.fname))
    rank = {name: at for at, name in enumerate(PREFERRED)}
    return sorted(fonts, key=lambda font: (rank.get(font[0], len(rank)), font))


@lru_cache(maxsize=64)
def characters(path: str) -> frozenset[str]:
    """The characters a font file has; none if it cannot be drawn at any size."""
    try:
        font = FT2Font(path)
    except (RuntimeError, OSError):
        return frozenset()
    return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()


@lru_cache(maxsize=4096)
def advance(paths: Sequence[str], char: str) -> float:
    """The width of a character in ems, in the first of the fonts that has it."""
    font = font_manager.get_font(paths)
    font.set_size(100, 72)
    return font.load_char(ord(char)).linearHoriAdvance / 65536 / 100  # FreeType counts in 65536ths of a pixel


@lru_cache(maxsize=64)
def warn_once(owner: str, missing: frozenset[str]) -> None:
    """One warning for one set of characters, however many labels and panels show it."""
    warnings.warn(f"{owner}: {advice(sorted(missing))}", stacklevel=2)


def advice(missing: list[str]) -> str:
    packages = []
    for char in missing:
        name = unicodedata.name(char, "")
        by_name = next((package for beginnings, package in INSTALL.items() if name.startswith(beginnings)), None)
        packages.append(by_name or (SYMBOLS if unicodedata.category(char) == "So" else OTHERS))
    examples = " ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
    return (
        f"no installed font has {examples}; such characters are written as code points. "
        f"Install {' and '.join(dict.fromkeys(packages))}"
    )
