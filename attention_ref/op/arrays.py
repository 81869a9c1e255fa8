"""Arrays at the boundary: what comes in is converted exactly or refused; what goes out has its argument's form."""

import numpy as np

from attention_ref.errors import OptionError
from attention_ref.op.words import first_line

NARROW = ("bfloat16", "float8_", "float6_", "float4_")


def as_array(owner, name, value):
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise OptionError(f"{owner}: {name} is no array: {first_line(str(error))}") from None


def floats(owner, argument, value, prefix=""):
    """A float32, float64 or complex array; narrower floats are widened to float64, integers refused."""
    name = prefix + argument.name
    array = as_array(owner, name, value)
    if array.ndim == 0 and isinstance(value, int) and not isinstance(value, bool):
        array = array.astype(float)
    if array.dtype == np.float16 or array.dtype.name.startswith(NARROW):
        return array.astype(np.float64)
    if array.dtype.kind not in "fc":
        raise OptionError(f"{owner}: {name} must be floating-point; got dtype {array.dtype}{hint(array.dtype)}")
    return array


def indices(owner, argument, value):
    array = as_array(owner, argument.name, value)
    if array.dtype.kind not in "iu":
        raise OptionError(f"{owner}: {argument.name} must hold integers; got dtype {array.dtype}")
    return array


def hint(dtype):
    return ", convert it with .astype(np.float64)" if dtype.kind in "iub" else ""


def reduce_to(gradient, shape):
    """Sum a gradient over the axes along which its argument was broadcast."""
    if gradient.shape == shape:
        return gradient
    extra = gradient.ndim - len(shape)
    if extra:
        gradient = gradient.sum(axis=tuple(range(extra)))
    stretched = tuple(axis for axis, n in enumerate(shape) if n == 1 and gradient.shape[axis] != 1)
    return gradient.sum(axis=stretched, keepdims=True) if stretched else gradient


def cast(gradient, dtype):
    """The argument's dtype, unless a complex step is under way."""
    if np.iscomplexobj(gradient) and dtype.kind != "c":
        return gradient
    return gradient.astype(dtype, copy=False)


def at_lead(x, lead, trailing=0):
    """x at these slices of the leading axes, which are aligned before its last `trailing` axes; an axis of 1 stays."""
    own = x.shape[: x.ndim - trailing]
    return x[(*(s if n != 1 else slice(None) for s, n in zip(lead[len(lead) - len(own) :], own, strict=True)), ...)]


def select(allowed, x, other=0.0, over=False):
    """np.where(allowed, x, other), by the bits: many times faster, for no element needs a branch; other is not -0.0.

    It may be written `over` x, which has all the axes of the result then.
    """
    if x.dtype not in (np.float32, np.float64):
        return np.where(allowed, x, other).astype(x.dtype, copy=False)
    bits = np.dtype(f"i{x.itemsize}")
    ones = -np.asarray(allowed).astype(bits)
    out = x if over else np.empty(np.broadcast(ones, x).shape, x.dtype)
    chosen = np.bitwise_and(x.view(bits), ones, out=out.view(bits))
    if other != 0:
        chosen |= ~ones & x.dtype.type(other).view(bits)
    return out


def all_finite(x):
    """Whether no element is NaN or infinite. A sum is finite only if its terms are, and takes no memory to find."""
    return bool(np.isfinite(np.sum(x))) or bool(np.isfinite(x).all())


def finite(x):
    """x with 0 for what is no finite number; x itself where all are."""
    known = np.isfinite(x)
    return x if known.all() else np.where(known, x, 0).astype(x.dtype, copy=False)


def fits(shape, target):
    """Does an array of this shape broadcast to the target without making it larger?"""
    try:
        return np.broadcast_shapes(shape, target) == target
    except ValueError:
        return False


def shown(value):
    """A value in an error message: on one line, and short."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def checked_flag(name, value):
    if not isinstance(value, (bool, np.bool_)):
        raise OptionError(f"{name} is True or False; got {shown(value)}")
    return value


def checked_number(name, value, low=-np.inf, below=np.inf):
    """A plain number, low <= value < below; NaN is one where there are no limits."""
    plain = isinstance(value, (int, float, np.floating)) and not isinstance(value, bool)
    if not plain or (low != -np.inf and not low <= value < below):
        raise OptionError(f"{name} must be a number, {low} <= {name} < {below}; got {shown(value)}")
    return float(value)


def leading_sum(x):
    """The sum over every axis but the last: the gradient of a bias vector."""
    return x.sum(axis=tuple(range(x.ndim - 1)))


def outer_sum(y, x):
    """The sum over every leading axis of y_a x_b: the gradient of a weight matrix from its output's and its input."""
    leading = np.broadcast_shapes(y.shape[:-1], x.shape[:-1])
    rows = int(np.prod(leading))
    y, x = (np.broadcast_to(z, (*leading, z.shape[-1])).reshape(rows, z.shape[-1]) for z in (y, x))
    return y.T @ x
