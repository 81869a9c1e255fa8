"""Arguments, checked once: arrays, masks, labels, choices; refused in a sentence that says what would be right."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from attention_ref.errors import OptionError, ShapeError
from attention_ref.op.arrays import NARROW, as_array
from attention_ref.op.suggest import did_you_mean

DRAWN_BY = {  # what draws an array of as many axes
    1: "plot.rows draws one query's weights, and takes the (query, key) matrix they are a row of",
    2: "plot.heatmap draws one (query, key) matrix",
    3: "plot.heads draws (head, query, key)",
    4: "plot.layers draws (layer, head, query, key)",
    5: "take one batch entry first, alpha[:, 0]",
}


def real(owner: str, name: str, value: Any) -> np.ndarray:
    """A real floating-point array, widened exactly where NumPy cannot compute in its dtype; copied only then."""
    if isinstance(value, np.ma.MaskedArray):
        raise OptionError(f"{owner}: {name} is a masked array; give {name}.data, and allowed=~{name}.mask")
    array = as_array(owner, name, value)
    if array.dtype.name.startswith(NARROW):
        return array.astype(np.float64)
    if array.dtype.kind == "c":
        raise OptionError(f"{owner}: {name} is complex ({array.dtype}); draw {name}.real or abs({name})")
    if array.dtype.kind == "b":
        raise OptionError(f"{owner}: {name} is boolean; plot.mask draws what is allowed")
    if array.dtype.kind in "iu":
        return array.astype(np.float64)
    if array.dtype.kind != "f":
        raise OptionError(f"{owner}: {name} must hold real numbers; got dtype {array.dtype}")
    return array


def numbers(owner: str, value: Any, axes: Sequence[str], name: str = "alpha") -> np.ndarray:
    """A real array with as many axes as `axes` names, none of them empty."""
    array = real(owner, name, value)
    if array.ndim != len(axes):
        advice = f"; {DRAWN_BY[array.ndim]}" if array.ndim in DRAWN_BY else ""
        raise ShapeError(f"{owner}: {name} must be ({', '.join(axes)}); got shape {array.shape}{advice}")
    if 0 in array.shape:
        raise ShapeError(f"{owner}: {name} of shape {array.shape} is empty; there is nothing to draw")
    return array


def boolean(owner: str, allowed: Any, shape: Sequence[int], name: str = "allowed") -> Any:
    """A boolean array broadcast to `shape`, or None."""
    if allowed is None:
        return None
    if hasattr(allowed, "dense") and not hasattr(allowed, "shape"):
        raise OptionError(f"{owner}: {name} is a mask without sizes; give {name}.dense(queries, keys)")
    array = as_array(owner, name, allowed)
    if array.dtype.kind != "b":
        raise OptionError(f"{owner}: {name} must be boolean, True = may attend; got dtype {array.dtype}")
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ShapeError(f"{owner}: {name} of shape {array.shape} does not broadcast to {tuple(shape)}") from None


def labels(owner: str, name: str, value: Any, count: int, axis: str) -> list[str] | None:
    """A list of `count` strings, or None; bytes, as many tokenizers have them, are read as UTF-8."""
    if value is None:
        return None
    if isinstance(value, str):
        raise OptionError(f"{owner}: {name} is one string; give a list of {count}, such as {name}=text.split()")
    if not hasattr(value, "__iter__"):
        raise OptionError(f"{owner}: {name} must be a list of {count} texts; got {type(value).__name__}")
    texts = []
    for label in value:
        texts.append(label.decode("utf-8", "backslashreplace") if isinstance(label, bytes) else str(label))
    if len(texts) != count:
        raise ShapeError(f"{owner}: {name} has {len(texts)} labels for {count} {axis}; give one for each")
    return texts


def choice(owner: str, name: str, value: Any, known: Sequence[Any]) -> Any:
    if value not in known:
        words = [word for word in known if isinstance(word, str)]
        hint = did_you_mean(value, words) if isinstance(value, str) else ""
        raise OptionError(f"{owner}: {name}={value!r} is none of {', '.join(map(repr, known))}{hint}")
    return value


def index(owner: str, name: str, value: Any, count: int, things: str) -> int:
    """An index from -count to count - 1, as one from 0."""
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise OptionError(f"{owner}: {name}={value!r} must be an integer")
    integer = value.__index__()
    if not -count <= integer < count:
        raise OptionError(f"{owner}: {name}={value} is out of range; there are {count} {things}, 0 to {count - 1}")
    return integer % count


def subset(owner: str, name: str, value: Any, count: int) -> list[int]:
    """The indices chosen by an index, several, or a slice; all of them for None."""
    if value is None:
        return list(range(count))
    if isinstance(value, slice):
        value = range(count)[value]
    chosen: Iterable[Any] = list(value) if hasattr(value, "__iter__") else [value]
    if not chosen:
        raise OptionError(f"{owner}: {name} is empty; leave it out to draw all {count}")
    return [index(owner, name, number, count, name) for number in chosen]


def positive(owner: str, name: str, value: Any) -> int:
    integer = value.__index__() if hasattr(value, "__index__") else 0
    if integer < 1:
        raise OptionError(f"{owner}: {name}={value!r} must be a whole number, at least 1")
    return integer


def pair(owner: str, name: str, value: Any) -> tuple[int, int]:
    """(rows, columns), from two whole numbers or from one for both."""
    both = tuple(value) if hasattr(value, "__iter__") else (value, value)
    if len(both) != 2:
        raise OptionError(f"{owner}: {name}={value!r} must be (rows, columns)")
    return positive(owner, name, both[0]), positive(owner, name, both[1])


def scale_end(owner: str, name: str, value: Any) -> float:
    """A finite number for an end of a scale."""
    if isinstance(value, (str, bytes)) or np.ndim(value) or not np.isfinite(value):
        raise OptionError(f"{owner}: {name}={value!r} must be a finite number, or None to take it from the data")
    return float(value)
