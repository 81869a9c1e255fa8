"""Balls: numbers that provably contain the exact one.

A `Ball` is a python-flint `arb` and, where a variable is involved, the numbers it was made of with the derivative by
each. A comparison that the balls cannot decide raises `Undecided`, and so does a quotient, root or logarithm that they
do not show to exist; more precision may decide it. NaN comes from infinities and NaN alone.
"""

from contextlib import contextmanager
from fractions import Fraction
from itertools import count

import flint
import numpy as np
from flint import arb

SERIAL = count()
ROUNDS_TO_ZERO = -1100


class Undecided(ArithmeticError):
    """Two balls overlap, and the program asked which is greater."""


@contextmanager
def precision(bits):
    before, flint.ctx.prec = flint.ctx.prec, bits
    try:
        yield
    finally:
        flint.ctx.prec = before


def plain(x):
    """The arb of any number."""
    if isinstance(x, Ball):
        return x.value
    if isinstance(x, arb):
        return x
    if isinstance(x, (bool, int, np.bool_, np.integer)):
        return arb(int(x))
    return arb(float(x))


class Ball:
    """One number: its enclosure, and (number, derivative) for each of the variable numbers it was made of."""

    __slots__ = ("parents", "serial", "value")

    def __init__(self, value, parents=None):
        self.value = value
        self.parents = parents
        self.serial = None if parents is None else next(SERIAL)

    @classmethod
    def variable(cls, x):
        return cls(plain(x), ())

    def __repr__(self):
        return str(self.value)

    @property
    def real(self):
        return self

    def __add__(self, other):
        if not isinstance(other, NUMBERS):
            return NotImplemented
        return made(self.value + plain(other), (self, ONE), (other, ONE))

    def __sub__(self, other):
        if not isinstance(other, NUMBERS):
            return NotImplemented
        return made(self.value - plain(other), (self, ONE), (other, -ONE))

    def __rsub__(self, other):
        return Ball(plain(other)) - self

    def __mul__(self, other):
        if not isinstance(other, NUMBERS):
            return NotImplemented
        a, b = self.value, plain(other)
        return made(a * b, (self, b), (other, a))

    def __truediv__(self, other):
        if not isinstance(other, NUMBERS):
            return NotImplemented
        b = nonzero(plain(other))
        quotient = self.value / b
        if self.parents is None and not alive(other):
            return Ball(quotient)
        return made(quotient, (self, 1 / b), (other, -quotient / b))

    def __rtruediv__(self, other):
        return Ball(plain(other)) / self

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self):
        return made(-self.value, (self, -ONE))

    def __abs__(self):
        return -self if self < 0 else self

    def __pow__(self, n):
        if not isinstance(n, (int, np.integer)) or n < 1:
            raise TypeError(f"a ball takes powers 1, 2, …; got {n!r}")
        less = arb(1)
        for _ in range(int(n) - 1):
            less = less * self.value
        return made(less * self.value, (self, int(n) * less))

    def exp(self):
        e = self.value.exp()
        return made(e, (self, e))

    def tanh(self):
        t = self.value.tanh()
        return made(t, (self, 1 - t * t))

    def sqrt(self):
        root = not_negative(self.value).sqrt()
        return made(root, (self, 1 / (2 * root)))

    def log(self):
        if self.value.is_zero():
            return Ball(arb.neg_inf())
        return made(not_negative(nonzero(self.value)).log(), (self, 1 / self.value))

    def __lt__(self, other):
        return below(self.value, plain(other), "<")

    def __gt__(self, other):
        return below(plain(other), self.value, "<")

    def __le__(self, other):
        return below(self.value, plain(other), "<=")

    def __ge__(self, other):
        return below(plain(other), self.value, "<=")

    def __eq__(self, other):
        a, b = self.value, plain(other)
        if a.is_nan() or b.is_nan() or a < b or b < a:
            return False
        if a == b:
            return True
        raise Undecided(f"{a} == {b}")

    def __ne__(self, other):
        return not self == other

    __hash__ = object.__hash__


ONE = arb(1)
NUMBERS = (Ball, arb, int, float, np.number, np.bool_)


def alive(x):
    return isinstance(x, Ball) and x.parents is not None


def made(value, *parents):
    """The ball of a result; a constant where nothing variable went in."""
    live = tuple(pair for pair in parents if alive(pair[0]))
    return Ball(value, live or None)


def below(a, b, sign):
    if a.is_nan() or b.is_nan():
        return False
    if a < b or (sign == "<=" and a <= b):
        return True
    if b < a or (sign == "<" and b <= a):
        return False
    raise Undecided(f"{a} {sign} {b}")


def nonzero(x):
    """x, unless it may be zero and may not: that is for more precision to decide."""
    if x.contains(0) and not x.is_zero() and x.is_finite():
        raise Undecided(f"{x} == 0")
    return x


def not_negative(x):
    if x.is_finite() and not x >= 0 and not x < 0:
        raise Undecided(f"{x} >= 0")
    return x


def greater(a, b):
    """The larger of two; of two that overlap, a ball around both."""
    a, b = ball(a), ball(b)
    try:
        return b if a <= b else a
    except Undecided:
        either = arb(0.5, 0.5)
        return made(a.value.max(b.value), (a, either), (b, either))


def lesser(a, b):
    return -greater(-ball(a), -ball(b))


def ball(x):
    return x if isinstance(x, Ball) else Ball(plain(x))


def nearest(x):
    """An exact arb rounded to the nearest float64, ties to even; zero is +0."""
    if x.is_nan():
        return np.nan
    if not x.is_finite():
        return np.inf if x > 0 else -np.inf
    man, exp = (int(n) for n in x.man_exp())
    if man == 0 or man.bit_length() + exp < ROUNDS_TO_ZERO:
        return 0.0
    if man.bit_length() + exp > 1100:
        return np.inf if man > 0 else -np.inf
    try:
        return float(Fraction(man) * Fraction(2) ** exp) + 0.0
    except OverflowError:
        return np.inf if man > 0 else -np.inf


def decided(value):
    if value.is_exact() or value.is_nan():
        return nearest(value)
    low, high = nearest(value.lower()), nearest(value.upper())
    if low != high:
        raise Undecided(f"{value.str(25)} rounds to {low!r} or to {high!r}")
    return low
