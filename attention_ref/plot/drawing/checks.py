"""What comes in, checked once: arrays, masks, labels, choices; refused in a sentence that says what is right."""

import numpy as np

from attention_ref.errors import OptionError, ShapeError
from attention_ref.op.arrays import NARROW, as_array
from attention_ref.op.op import did_you_mean

RIGHT = {
    1: "plot.rows draws one query's weights, and takes the (query, key) matrix they are a row of",
    2: "plot.heatmap draws one (query, key) matrix",
    3: "plot.heads draws (head, query, key)",
    4: "plot.layers draws (layer, head, query, key)",
    5: "take one batch entry first, alpha[:, 0]",
}


def real(owner, name, value):
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


def numbers(owner, value, axes, name="alpha"):
    """A real array with as many axes as `axes` names, none of them empty."""
    array = real(owner, name, value)
    if array.ndim != len(axes):
        other = RIGHT.get(array.ndim)
        other = f"; {other}" if other else ""
        raise ShapeError(f"{owner}: {name} must be ({', '.join(axes)}); got shape {array.shape}{other}")
    if 0 in array.shape:
        raise ShapeError(f"{owner}: {name} of shape {array.shape} is empty; there is nothing to draw")
    return array


def boolean(owner, allowed, shape, name="allowed"):
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


def labels(owner, name, given, count, axis):
    """A list of `count` strings, or None."""
    if given is None:
        return None
    if isinstance(given, str):
        raise OptionError(f"{owner}: {name} is one string; give a list of {count}, such as {name}=text.split()")
    if not hasattr(given, "__iter__"):
        raise OptionError(f"{owner}: {name} must be a list of {count} texts; got {type(given).__name__}")
    texts = [one.decode("utf-8", "backslashreplace") if isinstance(one, bytes) else str(one) for one in given]
    if len(texts) != count:
        raise ShapeError(f"{owner}: {name} has {len(texts)} labels for {count} {axis}; give one for each")
    return texts


def choice(owner, name, value, known):
    if value not in known:
        words = [one for one in known if isinstance(one, str)]
        hint = did_you_mean(value, words) if isinstance(value, str) else ""
        raise OptionError(f"{owner}: {name}={value!r} is none of {', '.join(map(repr, known))}{hint}")
    return value


def index(owner, name, value, count, what):
    """An index from -count to count - 1, as one from 0."""
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise OptionError(f"{owner}: {name}={value!r} must be an integer")
    whole = value.__index__()
    if not -count <= whole < count:
        raise OptionError(f"{owner}: {name}={value} is out of range; there are {count} {what}, 0 to {count - 1}")
    return whole % count


def subset(owner, name, given, count):
    """The indices chosen, all of them for None."""
    if given is None:
        return list(range(count))
    if isinstance(given, slice):
        given = range(count)[given]
    chosen = list(given) if hasattr(given, "__iter__") else [given]
    if not chosen:
        raise OptionError(f"{owner}: {name} is empty; leave it out to draw all {count}")
    return [index(owner, name, one, count, name) for one in chosen]


def positive(owner, name, value):
    whole = value.__index__() if hasattr(value, "__index__") else 0
    if whole < 1:
        raise OptionError(f"{owner}: {name}={value!r} must be a whole number, at least 1")
    return whole


def pair(owner, name, value):
    """(rows, columns), from two whole numbers or from one for both."""
    both = tuple(value) if hasattr(value, "__iter__") else (value, value)
    if len(both) != 2:
        raise OptionError(f"{owner}: {name}={value!r} must be (rows, columns)")
    return tuple(positive(owner, name, one) for one in both)


def end(owner, name, value):
    """A finite number for an end of a scale."""
    if isinstance(value, (str, bytes)) or np.ndim(value) or not np.isfinite(value):
        raise OptionError(f"{owner}: {name}={value!r} must be a finite number, or None to take it from the data")
    return float(value)
