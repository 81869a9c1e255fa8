"""Words for people: lists and counts in English, and texts of strangers made safe to print."""

import unicodedata

NAMED = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}

# controls (ESC begins a terminal's commands), formats (they reorder or hide letters), surrogates (they cannot be
# encoded), private and unassigned code points, and the separators of lines and paragraphs
UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def printable(text: str) -> str:
    """A text on one line in which every character can be seen; those that cannot are written as escapes.

    >>> printable("red \\x1b[31m, end")
    'red \\\\x1b[31m, end'
    """
    return "".join(map(visible, text))


def visible(char: str) -> str:
    if unicodedata.category(char) in UNSEEN or (char.isspace() and char != " "):
        return NAMED.get(char) or escape(ord(char))
    return char


def escape(code: int) -> str:
    """A code point as Python writes it."""
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def listed(names, word: str = "and") -> str:
    """Several names as a sentence has them.

    >>> listed(["q", "k", "v"])
    'q, k and v'
    """
    *others, last = names
    return f"{', '.join(others)} {word} {last}" if others else last


def plural(n: int, one: str, many: str = "") -> str:
    """A number of things.

    >>> plural(1, "case"), plural(2, "case"), plural(0, "axis", "axes")
    ('1 case', '2 cases', '0 axes')
    """
    return f"{n} {one if n == 1 else many or one + 's'}"


def first_line(text: str) -> str:
    return text.partition("\n")[0]


def shorten(text: str, width: int) -> str:
    """The text in at most `width` characters, its end left out if need be."""
    return text if len(text) <= width else f"{text[: width - 1]}…"
