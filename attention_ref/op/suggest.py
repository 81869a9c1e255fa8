"""What the user may have meant by a name that is not known."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


def suggestion(name: Any, known: Iterable[str]) -> str | None:
    """The known name that is nearest to this one, or None."""
    nearest = get_close_matches(name, list(known), 1) if isinstance(name, str) else []
    return nearest[0] if nearest else None


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: what may be meant, or else what there is."""
    known = list(known)
    nearest = suggestion(name, known)
    return f"; it takes {', '.join(known)}" if nearest is None else f"; did you mean {nearest!r}?"
