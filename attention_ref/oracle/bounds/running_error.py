"""Numbers known up to an error: an array that carries the exact values and how far any kernel may be from them.

A score's own forward and backward run on these arrays as they do on NumPy's, so that a new rule has its bound without
a line written for it. Each element carries

    value      what exact arithmetic gives (computed in float64)
    size       the sum of the absolute values of everything that was added up to it
    depth      how many roundings a term has been through, in whatever order the sums are taken
    inherited  an absolute error that is there already: of a function's result, of what was rounded before

and   error = inherited + γ_depth · size.   Size and not |value|, because a kernel that multiplies the same matrices in
another order, or adds two sums as one, cancels at another place: (q W) k or q (W k), W_q q + W_k k or W [q; k].
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from attention_ref.oracle.bounds.precision import CONFIDENCE

PARTS = ("value", "size", "depth", "inherited")


class Near(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of values with what is known about the error of each."""

    def __init__(self, value, size, depth, inherited, model, given=False):
        self.value, self.size, self.depth, self.inherited = value, size, depth, inherited
        self.model, self.given = model, given
        self.shape, self.ndim, self.dtype = value.shape, value.ndim, value.dtype

    @cached_property
    def error(self):
        if nothing(self.depth) and nothing(self.inherited):
            return self.inherited
        return self.inherited + self.model.gamma(self.depth) * self.size

    @cached_property
    def upper(self):
        """What no computed value exceeds, whatever has cancelled in the exact one."""
        return self.size if nothing(self.error) else self.size + self.error

    @property
    def real(self):
        return self

    @property
    def T(self):
        return self.each(np.transpose)

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if method != "__call__" or kwargs or ufunc not in UFUNCS:
            raise TypeError(f"there is no error bound for numpy.{ufunc.__name__}")
        return UFUNCS[ufunc](*(self.like(x) for x in inputs))

    def __array_function__(self, function, types, args, kwargs):
        if function in STRUCTURAL:
            first, *rest = args
            return first.each(function, *rest, **kwargs)
        if function not in FUNCTIONS:
            raise TypeError(f"there is no error bound for numpy.{function.__name__}")
        return FUNCTIONS[function](*args, **kwargs)

    def __getitem__(self, index):
        return self.each(lambda x: x[index])

    def like(self, x):
        """A plain float, such as 1/√d, a kernel has to round or compute; an array is given."""
        if isinstance(x, Near):
            return x
        return constant(x, self.model) if type(x) is float else exact(x, self.model)

    def each(self, function, *args, **kwargs):
        """The same rearrangement of all parts."""
        parts = [function(getattr(self, part), *args, **kwargs) for part in PARTS]
        return assembled(parts, self.model, self.given)

    def sum(self, axis=None, keepdims=False):
        return total(self, axis, keepdims)

    def reshape(self, *shape):
        return self.each(np.reshape, shape)

    def astype(self, dtype, copy=True):
        return self

    def but(self, **changed):
        """The same, but for what is named: parts, model, given."""
        kept = {name: getattr(self, name) for name in (*PARTS, "model", "given")}
        return Near(**kept | changed)

    def settled(self):
        """A number that a kernel has: what cancelled on the way is past, its error is inherited from here on."""
        error = self.error
        return Near(self.value, np.abs(self.value), np.zeros_like(error), error, self.model, self.given)

    def rounded(self, form):
        """After rounding into a format."""
        near = self.settled()
        return with_error(near.value, near.inherited + self.model.rounding(form, near.upper), self.model)

    def operand(self):
        """The error that each element takes on, independently of the others, as it enters a matrix product.

        A factor may have been multiplied into it before, and have underflowed: η.
        """
        fresh = np.where(self.upper > 0, self.model.tiny, 0)
        if not self.given or self.model.rounds_inputs:
            fresh = fresh + self.model.rounding(self.model.operand, self.upper)
        return fresh


def assembled(parts, model, given):
    value, size, depth, inherited = parts
    return Near(value, size, depth, inherited, model, given)


def exact(x, model):
    """An input: its bits are the same on both sides."""
    value = np.asarray(x, dtype=np.float64)
    none = np.broadcast_to(0.0, value.shape)
    return Near(value, np.abs(value), none, none, model, given=True)


def nothing(x):
    """Is this the same 0 everywhere, as it is in what is exact? Then no array of zeros needs to be computed with."""
    return not any(x.strides) and x.size > 0 and x.flat[0] == 0


def constant(x, model):
    """A number that a kernel computes for itself, such as 1/√d: rounded once or twice."""
    near = exact(x, model)
    return Near(near.value, near.size, near.depth + 2, near.inherited, model)


def with_error(value, error, model):
    size = np.where(np.isfinite(value), np.abs(value), 0)
    return Near(value, size, np.zeros(value.shape), error + np.zeros(value.shape), model)


def stored(value, size, depth, inherited, model):
    """What an operation returns, rounded if the model writes every intermediate result to memory."""
    inherited = inherited + model.rounding(model.stored, size)
    inherited = np.where(size > model.work.largest, np.inf, inherited)
    return Near(value, size, np.broadcast_to(depth, value.shape), inherited, model)


def added(a, b, value):
    return stored(value, a.size + b.size, a.depth + b.depth + 1, a.inherited + b.inherited, a.model)


def add(a, b):
    return added(a, b, a.value + b.value)


def subtract(a, b):
    return added(a, b, a.value - b.value)


def multiply(a, b):
    inherited = a.inherited * b.upper + a.upper * b.inherited + underflow(a, b)
    return stored(a.value * b.value, a.size * b.size, a.depth + b.depth + 1, inherited, a.model)


def underflow(a, b):
    """A product of zero is zero."""
    return np.where((a.upper > 0) & (b.upper > 0), a.model.tiny, 0)


def divide(a, b):
    """a/b, as a quotient or times a reciprocal: |a| Δb / (|b| (|b| − Δb)) for the divisor's error."""
    least = np.abs(b.value) - b.error
    wrong = np.where(least > 0, b.error / np.where(least > 0, least, 1), np.where(b.error > 0, np.inf, 0))
    size = a.size / np.abs(b.value)
    inherited = a.inherited / np.abs(b.value) * (1 + wrong) + a.upper / np.abs(b.value) * wrong + underflow(a, b)
    return stored(a.value / b.value, size, a.depth + 1 + a.model.c, inherited, a.model)


def negative(a):
    return Near(-a.value, a.size, a.depth, a.inherited, a.model, a.given)


def absolute(a):
    return Near(np.abs(a.value), a.size, a.depth, a.inherited, a.model, a.given)


def matmul(a, b):
    """Σ_k a_k b_k over n terms that are not zero: γ_{n+1} on top of what the factors bring, and 2(n+1) η.

    An operand that is not an input is first rounded to the operands' format.
    """
    count = (a.upper > 0).astype(float) @ (b.upper > 0).astype(float)
    depth = count + 1 + a.depth.max(initial=0) + b.depth.max(initial=0)
    fresh_a, fresh_b = a.operand(), b.operand()
    inherited = np.where(count > 0, 2 * (count + 1) * a.model.tiny, 0)
    if not nothing(a.inherited):
        inherited += a.inherited @ (b.upper + b.inherited + fresh_b)
    if not nothing(b.inherited):
        inherited += (a.upper + fresh_a) @ b.inherited
    inherited += scattered(fresh_a, b.upper + fresh_b, a.model) + scattered(a.upper, fresh_b, a.model)
    return stored(a.value @ b.value, a.size @ b.size, depth, inherited, a.model)


def einsum(subscripts, *operands):
    """A product of all operands, aligned by their letters, and a sum over the letters that the result has not."""
    inputs, arrow, result = subscripts.replace(" ", "").partition("->")
    if not arrow:
        raise TypeError(f"there is no error bound for numpy.einsum without '->'; got {subscripts!r}")
    letters = sorted({*inputs} - {*"...,"})
    product: Any = None
    for axes, x in zip(inputs.split(","), operands, strict=True):
        own = axes.replace("...", "")
        # [... own] -> [... letters], with an axis of length 1 for each letter that this operand lacks
        x = np.moveaxis(x, [own.index(c) - len(own) for c in own], [sorted(own).index(c) - len(own) for c in own])
        lead = x.shape[: x.ndim - len(own)]
        sizes = dict(zip(sorted(own), x.shape[x.ndim - len(own) :], strict=True))
        x = np.reshape(x, (*lead, *(sizes.get(c, 1) for c in letters)))
        product = x if product is None else product * x
    kept = result.replace("...", "")
    summed = tuple(n - len(letters) for n, c in enumerate(letters) if c not in kept)
    out = total(product, summed) if summed else product
    left = [c for c in letters if c in kept]
    return np.moveaxis(out, [left.index(c) - len(kept) for c in kept], [n - len(kept) for n in range(len(kept))])


def scattered(a, b, model):
    """Σ_k of independent errors: at most their sum; statistically the root of the sum of their squares."""
    most = a @ b
    if not model.statistical:
        return most
    return np.minimum(most, CONFIDENCE * np.sqrt((a * a) @ (b * b)))


def total(a, axis=None, keepdims=False):
    """Σ over an axis: each term goes through at most as many additions as there are terms."""
    count = (a.upper > 0).sum(axis=axis, keepdims=keepdims)
    value, size = (x.sum(axis=axis, keepdims=keepdims) for x in (a.value, a.size))
    inherited = a.inherited.sum(axis=axis, keepdims=keepdims)
    depth = a.depth.max(axis=axis, keepdims=keepdims, initial=0)
    return stored(np.asarray(value), np.asarray(size), depth + count, np.asarray(inherited), a.model)


def tanh(a):
    """|tanh x̂ − tanh x| ≤ Δ sech²(|x| − Δ); the function itself may be off by c u absolutely, as 2σ(2x) − 1 is."""
    steepest = 1 / np.cosh(np.minimum(np.maximum(np.abs(a.value) - a.error, 0), 350)) ** 2
    moved = np.minimum(np.where(a.error > 0, a.error * steepest, 0), 2)
    value = np.tanh(a.value)
    return stored(value, np.abs(value), 0, moved + a.model.c * a.model.u, a.model)


def sqrt(a):
    """|√x̂ − √x| ≤ Δ / (√x + √(x − Δ))."""
    value = np.sqrt(a.value)
    denominator = value + np.sqrt(np.maximum(a.value - a.error, 0))
    moved = np.where(a.error > 0, a.error / np.where(denominator > 0, denominator, 1), 0)
    return stored(value, value, a.model.c, np.where(denominator > 0, moved, np.sqrt(a.error)), a.model)


def largest(a, axis=None, keepdims=False, initial=None):
    given = {} if initial is None else {"initial": initial}
    value, size, depth, inherited = (np.max(getattr(a, part), axis=axis, keepdims=keepdims, **given) for part in PARTS)
    return Near(value, size, depth, inherited, a.model, a.given)


def where(condition, a, b):
    model = (a if isinstance(a, Near) else b).model
    a, b = (x if isinstance(x, Near) else exact(x, model) for x in (a, b))
    parts = [np.where(condition, getattr(a, part), getattr(b, part)) for part in PARTS]
    return assembled(parts, model, a.given and b.given)


def concatenate(several, axis=0):
    model = next(x.model for x in several if isinstance(x, Near))
    several = [x if isinstance(x, Near) else exact(x, model) for x in several]
    parts = [np.concatenate([getattr(x, part) for x in several], axis=axis) for part in PARTS]
    return assembled(parts, model, all(x.given for x in several))


def compared(ufunc):
    return lambda a, b: ufunc(a.value, b.value)


UFUNCS: dict[Any, Callable] = {
    np.add: add,
    np.subtract: subtract,
    np.multiply: multiply,
    np.divide: divide,
    np.negative: negative,
    np.absolute: absolute,
    np.matmul: matmul,
    np.tanh: tanh,
    np.sqrt: sqrt,
} | {u: compared(u) for u in (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal)}
FUNCTIONS: dict[Any, Callable] = {
    np.sum: total,
    np.max: largest,
    np.where: where,
    np.concatenate: concatenate,
    np.einsum: einsum,
}
STRUCTURAL = {np.swapaxes, np.moveaxis, np.broadcast_to, np.reshape, np.expand_dims, np.transpose, np.repeat}
