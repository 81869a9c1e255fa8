"""Arrays of balls that NumPy's functions take, so that a definition, forward or backward runs on them as it is.

What NumPy lacks on objects is supplied here: -inf among floats, isfinite, the maximum of balls that overlap, sorting.
"""

import numpy as np
from flint import arb

from attention_ref.oracle.exact.ball import Ball, ball, decided, greater, lesser


def is_finite(x):
    return ball(x).value.is_finite()


def is_neg_inf(x):
    return ball(x).value == arb.neg_inf()


def is_nan(x):
    return ball(x).value.is_nan()


class Balls(np.ndarray):
    """An object array of balls."""

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        ufunc = OWN_UFUNCS.get(ufunc, ufunc)
        taken = [bare(inputs[0]) if method == "at" else objects(inputs[0]), *map(objects, inputs[1:])]
        if "initial" in kwargs:
            kwargs["initial"] = ball(kwargs["initial"])
        if out is not None:
            kwargs["out"] = tuple(bare(x) for x in out)
        if ufunc in PREDICATES:
            return np.asarray(ufunc(*taken)).astype(bool)
        return balls(getattr(ufunc, method)(*taken, **kwargs))

    def __array_function__(self, function, types, args, kwargs):
        if function in OWN_FUNCTIONS:
            return OWN_FUNCTIONS[function](*args, **kwargs)
        return balls(super().__array_function__(function, (), args, kwargs))

    @property  # type: ignore[misc]
    def real(self):
        return self


def balls(x):
    """Objects as `Balls`, every element a ball; anything else as it is."""
    if isinstance(x, Ball):
        x = np.array(x, object)
    if not isinstance(x, np.ndarray) or x.dtype != object:
        return x
    return array([ball(element) for element in x.ravel().tolist()], x.shape)


def array(elements, shape):
    out = np.empty(len(elements), object)
    out[:] = elements
    return out.reshape(shape).view(Balls)


def exact(x):
    """A floating-point array as balls of radius 0."""
    return balls(np.asarray(x).astype(object))


def variables(x):
    """A floating-point array as balls that remember what is made of them."""
    x = np.asarray(x)
    return array([Ball.variable(element) for element in x.ravel().tolist()], x.shape)


def bare(x):
    return x.view(np.ndarray) if isinstance(x, Balls) else x


def objects(x):
    """What an object loop can compute with: floats become balls, integers and booleans stay."""
    if isinstance(x, Balls):
        return x.view(np.ndarray)
    if isinstance(x, np.ndarray) and x.dtype.kind in "fO":
        return balls(x.astype(object)).view(np.ndarray)
    return ball(x) if isinstance(x, (float, np.floating)) else x


def neg_inf(x, out=None):
    return np.asarray(IS_NEG_INF(objects(x))).astype(bool)


def argsort(x, axis=-1, kind=None):
    """By the middles: of two balls that overlap either may come first."""
    rows = np.moveaxis(np.asarray(bare(x)), axis, -1)
    out = np.empty(rows.shape, int)
    for at in np.ndindex(rows.shape[:-1]):
        middles = [element.value.mid() for element in rows[at]]
        out[at] = sorted(range(len(middles)), key=lambda n: Middle(middles[n]))
    return np.moveaxis(out, -1, axis)


class Middle:
    """An exact number that sorts."""

    def __init__(self, value):
        self.value = value

    def __lt__(self, other):
        return bool(self.value < other.value)


IS_NEG_INF = np.frompyfunc(is_neg_inf, 1, 1)
OWN_UFUNCS = {
    np.maximum: np.frompyfunc(greater, 2, 1),
    np.minimum: np.frompyfunc(lesser, 2, 1),
    np.isfinite: np.frompyfunc(is_finite, 1, 1),
    np.isnan: np.frompyfunc(is_nan, 1, 1),
}
PREDICATES = {OWN_UFUNCS[np.isfinite], OWN_UFUNCS[np.isnan]}
OWN_FUNCTIONS = {
    np.isneginf: neg_inf,
    np.argsort: argsort,
    np.real: lambda x: x,
    np.zeros_like: lambda x: exact(np.zeros(x.shape)),
    np.ones_like: lambda x: exact(np.ones(x.shape)),
}


def rounded(x):
    """Balls rounded to float64; `Undecided` where the two ends of a ball round differently."""
    return np.array([decided(node.value) for node in x.ravel().tolist()], np.float64).reshape(x.shape)
