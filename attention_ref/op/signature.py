"""Signatures: the shapes of an op's arguments and results, parsed, checked and drawn from.

    q[... i d] k[... j c] w[d+c] b?[] allowed?:bool(... i j) token<v[...] -> s[... i j]

Square brackets name the last axes exactly; `...` are leading axes, which broadcast among the arguments, and the
results have the broadcast of them. Round brackets take anything that broadcasts to the axes named. A `?` marks an
optional argument. `:positive` are numbers above 0, `:bool` a mask, `:int` integers, `<v` integers from 0 to v - 1,
`<=j` from 0 to j; everything else is floating-point. An axis is a letter, a multiple (`3h`) or a sum (`d+c`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from types import MappingProxyType

import numpy as np

from attention_ref.errors import ShapeError
from attention_ref.op.arrays import fits
from attention_ref.op.words import plural

ARGUMENT = re.compile(
    r"\s*(?P<name>[a-z]\w*)(?P<optional>\??)(?::(?P<kind>bool|int|positive)|(?P<relation><=?)(?P<limit>[a-z]))?"
    r"(?P<bracket>[\[(])(?P<axes>[^\])]*)[\])]\s*"
)
TERM = re.compile(r"(\d*)([a-z])")
PRIMES = (5, 7, 3, 11, 2, 13, 17, 19, 23, 29)


@dataclass(frozen=True)
class Axis:
    """One axis of a signature: a sum of multiples of letters, `3h` or `d+c`."""

    text: str

    @cached_property
    def terms(self):
        return [(int(n or 1), letter) for n, letter in TERM.findall(self.text)]

    @property
    def is_letter(self):
        return len(self.text) == 1

    def size(self, sizes):
        return sum(n * sizes[letter] for n, letter in self.terms)

    def solve(self, size, sizes):
        """Fill in the one letter of this axis that is not known yet, when there is one and it divides."""
        unknown = [(n, letter) for n, letter in self.terms if letter not in sizes]
        if len(unknown) == 1:
            n, letter = unknown[0]
            rest = size - sum(m * sizes[other] for m, other in self.terms if other in sizes)
            if rest >= 0 and rest % n == 0:
                sizes[letter] = rest // n


@dataclass(frozen=True)
class Argument:
    """One argument or result: its name, its axes and what it holds."""

    name: str
    axes: tuple[Axis, ...]
    leading: bool
    broadcasts: bool = False
    optional: bool = False
    kind: str = "float"
    limit: str = ""
    inclusive: bool = False
    positive: bool = False

    def __str__(self):
        inner = " ".join(["..."] * self.leading + [axis.text for axis in self.axes])
        return f"{self.name}({inner})" if self.broadcasts else f"{self.name}[{inner}]"

    @property
    def declaration(self):
        """The argument as a signature declares it: `b?[x]`, `token<v[...]`, `allowed?:bool(... i j)`."""
        what = ""
        if self.limit:
            what = f"{'<=' if self.inclusive else '<'}{self.limit}"
        elif self.positive:
            what = ":positive"
        elif self.kind != "float":
            what = f":{self.kind}"
        bare = str(self)
        return f"{self.name}{'?' if self.optional else ''}{what}{bare[len(self.name) :]}"

    def with_axis(self, letter):
        """The argument with one more axis after its leading ones, as in [... i j] -> [... h i j]; others unchanged."""
        return replace(self, axes=(Axis(letter), *self.axes)) if self.leading else self

    def renamed(self, **letters):
        """The argument with other letters for its axes, as in renamed(n="r")."""
        return replace(self, axes=tuple(Axis(letters.get(axis.text, axis.text)) for axis in self.axes))

    def lead(self, shape):
        return tuple(shape[: max(0, len(shape) - len(self.axes))]) if self.leading else ()


def parse_arguments(text, whole):
    arguments, at = [], 0
    while at < len(text):
        found = ARGUMENT.match(text, at)
        if not found:
            raise ValueError(f"signature {whole!r}: cannot read {text[at:].strip()!r}")
        axes = found["axes"].split()
        leading = axes[:1] == ["..."]
        for axis in axes[leading:]:
            if not re.fullmatch(r"\d*[a-z](\+\d*[a-z])*", axis):
                raise ValueError(f"signature {whole!r}: {axis!r} is not a letter, a multiple or a sum of letters")
        positive = found["kind"] == "positive"
        kind = "float" if positive else found["kind"] or ("int" if found["limit"] else "float")
        arguments.append(
            Argument(
                found["name"],
                tuple(Axis(axis) for axis in axes[leading:]),
                leading,
                found["bracket"] == "(",
                bool(found["optional"]),
                kind,
                found["limit"] or "",
                found["relation"] == "<=",
                positive,
            )
        )
        at = found.end()
    return tuple(arguments)


@dataclass(frozen=True)
class Bound:
    """A signature with sizes: what every letter and the leading axes are in one call."""

    sizes: Mapping[str, int]
    leading: tuple[int, ...]

    def shape(self, argument):
        return self.leading * argument.leading + tuple(axis.size(self.sizes) for axis in argument.axes)


class Signature:
    """The parsed form of `arguments -> results`."""

    def __init__(self, text):
        left, arrow, right = text.partition("->")
        if not arrow:
            raise ValueError(f"signature {text!r}: there is no '->'")
        self.text = text
        self.arguments = parse_arguments(left, text)
        self.results = parse_arguments(right, text)
        for several in (self.arguments, self.results):
            names = [argument.name for argument in several]
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"signature {text!r}: {twice!r} stands there twice; each needs a name of its own")

    def __str__(self):
        return self.text

    def bind(self, owner, shapes, leads=None):
        """Check the shapes given by name against each other; `leads` stands in for their leading axes."""
        hashable = (tuple((name, tuple(shape)) for name, shape in some.items()) for some in (shapes, leads or {}))
        return bind(self, owner, *hashable)

    def draw(self, rng, sizes=None, leading=(), dtype="float64", include=()):
        """Random arguments: every axis a different prime; parameters at 1/sqrt(width).

        `leading` is one shape for all, or a dict by argument; `include` names the optional arguments wanted.
        """
        letters = {letter for argument in self.arguments for axis in argument.axes for _, letter in axis.terms}
        unknown = sorted(set(sizes or {}) - letters)
        if unknown:
            known = " ".join(sorted(letters))
            raise ShapeError(f"example: there is no axis {unknown[0]!r} in {self.text}; its axes are {known}")
        sizes = self.prime_sizes() | dict(sizes or {})
        out = {}
        for argument in self.arguments:
            if argument.optional and argument.name not in include:
                continue
            lead = leading.get(argument.name, ()) if isinstance(leading, dict) else leading
            shape = tuple(lead) * argument.leading + tuple(axis.size(sizes) for axis in argument.axes)
            out[argument.name] = draw_array(rng, argument, shape, sizes, dtype)
        return out

    def prime_sizes(self):
        letters = [letter for argument in self.arguments for axis in argument.axes for _, letter in axis.terms]
        return dict(zip(dict.fromkeys(letters), PRIMES, strict=False))


@lru_cache(maxsize=256)
def bind(signature, owner, shapes, leads):
    """What `Signature.bind` finds: a call asks several times with the same shapes."""
    shapes, leads = dict(shapes), dict(leads)
    given = [(argument, shapes[argument.name]) for argument in signature.arguments if argument.name in shapes]
    sizes = bind_letters(owner, [pair for pair in given if not pair[0].broadcasts])
    leads = leads or {argument.name: argument.lead(shape) for argument, shape in given if argument.leading}
    bound = Bound(MappingProxyType(sizes), broadcast_leading(owner, leads))
    for argument, shape in given:
        if argument.broadcasts:
            check_broadcast(owner, argument, shape, bound.shape(argument))
    return bound


def draw_array(rng, argument, shape, sizes, dtype):
    if argument.kind == "bool":
        return rng.random(shape) < 0.7
    if argument.kind == "int":
        count = sizes[argument.limit] + argument.inclusive if argument.limit else 2
        if count == 0 and 0 not in shape:
            raise ShapeError(f"example: there is no {argument} below {argument.limit} = 0")
        return rng.integers(0, max(count, 1), shape)
    width = shape[-1] if argument.axes and not argument.leading else 1
    values = rng.standard_normal(shape) / np.sqrt(max(width, 1))
    return (np.exp(values) if argument.positive else values).astype(dtype)


def bind_letters(owner, given):
    sizes, where = {}, {}
    for argument, shape in given:
        wanted = len(argument.axes)
        if len(shape) < wanted or (len(shape) > wanted and not argument.leading):
            least = "at least " * argument.leading
            raise ShapeError(f"{owner}: {argument} has {least}{plural(wanted, 'axis', 'axes')}; got shape {shape}")
        for axis, size in zip(argument.axes, shape[len(shape) - wanted :], strict=True):
            if axis.is_letter:
                if sizes.setdefault(axis.text, size) != size:
                    raise ShapeError(
                        f"{owner}: axis {axis.text} is {sizes[axis.text]} in {where[axis.text]} and {size} in "
                        f"{argument} of shape {shape}; they must be the same"
                    )
                where.setdefault(axis.text, f"{argument} of shape {shape}")
    check_composites(owner, given, sizes)
    return sizes


def check_composites(owner, given, sizes):
    for argument, shape in given:
        for axis, size in zip(argument.axes, shape[len(shape) - len(argument.axes) :], strict=True):
            axis.solve(size, sizes)
            known = all(letter in sizes for _, letter in axis.terms)
            if not known or axis.size(sizes) != size:
                values = ", ".join(f"{letter} = {sizes.get(letter, '?')}" for _, letter in axis.terms)
                right = f" = {axis.size(sizes)}" if known else ""
                raise ShapeError(
                    f"{owner}: axis {axis.text} of {argument} is {size} (shape {shape}); "
                    f"with {values} it must be {axis.text}{right}"
                )


def broadcast_leading(owner, leads):
    try:
        return np.broadcast_shapes(*leads.values())
    except ValueError:
        shown = ", ".join(f"{name} {shape}" for name, shape in leads.items() if shape)
        raise ShapeError(f"{owner}: the leading axes do not broadcast: {shown}; they must be equal or 1") from None


def check_broadcast(owner, argument, shape, target):
    if not fits(shape, target):
        raise ShapeError(f"{owner}: {argument.name} of shape {shape} does not broadcast to {argument} = {target}")
