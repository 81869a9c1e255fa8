"""What a preset is, what a known deviation is, and helpers that every library needs."""

from dataclasses import dataclass, field, replace
from importlib import import_module
from math import isfinite
from types import MappingProxyType
from typing import Any

from attention_ref.backend.declare import declared, declaring
from attention_ref.errors import Unsupported

SCALED_DOT = MappingProxyType({"scaled_dot": {}, "dot": {"scale": 1.0}})


BY_OPERATION = MappingProxyType({"float16": "f16", "bfloat16": "bf16"})  # every result is written in the narrow dtype
UNIFORM = MappingProxyType({"empty_row": "uniform"})


def without_masks(inputs, **options):
    """The inputs of a case with these options in the place of its masks."""
    masks = ("allowed", "causal", "window", "q_lengths", "k_lengths", "q_segments", "k_segments")
    return replace(inputs, options={name: x for name, x in inputs.options.items() if name not in masks} | options)


def opened(inputs, allowed, rule):
    """As if rows in which nothing is allowed had no masks."""
    return without_masks(inputs, allowed=allowed | ~allowed.any(axis=-1, keepdims=True))


@dataclass(frozen=True)
class Known:
    """A deviation that a library is known for: one measured sentence, where it shows, and what a result is then.

    It shows in the cases that have one of `flags` and one of `options`, in `results` and in `dtypes` (none = any). A
    result is explained by it only if, but for it, the result is right:

    convention            options of `ar.attention` under which it is, or a function that changes the inputs so
    nan_from              where NaN or infinity in the place of numbers comes from, "empty rows" or "poison"
    spreads_across_heads  whether that reaches all heads, and not its own only
    model                 the arithmetic whose bound holds
    bound_factor          how many times the bound it is
    returns               the dtype of what comes back
    """

    sentence: str
    flags: tuple = ()
    options: tuple = ()
    results: tuple = ()
    dtypes: tuple = ()
    link: str = ""
    convention: Any = None
    nan_from: str = ""
    spreads_across_heads: bool = False
    model: str = ""
    bound_factor: float = 1.0
    returns: str = ""

    def covers(self, case, dtype):
        """Whether it may show in a case."""
        if self.nan_from == "poison" and (case.poison is None or isfinite(case.poison)):
            return False
        return (
            (not self.dtypes or dtype in self.dtypes)
            and (not self.flags or not set(self.flags).isdisjoint(case.flags))
            and (not self.options or not set(self.options).isdisjoint(case.options))
        )

    def concerns(self, result):
        return not self.results or result in self.results


DEAD = ("DeadRow",)
NAN_BIAS = Known(
    "a row of nothing but a bias of -inf is NaN, and so are the gradients it reaches",
    DEAD,
    ("bias",),
    nan_from="empty rows",
)
LEAK = Known(
    "a masked NaN or infinity reaches results as 0 * NaN: what is masked is added or multiplied away", nan_from="poison"
)


NARROW_DV = Known(
    "on a CPU torch's flash backend sums dv over blocks of queries in the narrow dtype: up to 1.7 times the bound of "
    "a float32 sum",
    results=("dv",),
    dtypes=("float16", "bfloat16"),
    bound_factor=2.0,
)


@dataclass(frozen=True)
class Preset:
    """A library's function: `call(*arrays, **options)` in the framework's arrays, with the options of `ar.attention`.

    `call` takes the library's function first, if `target` names one. `rules` gives options that a rule implies,
    `models` the precision model of a dtype in which the library computes more narrowly than the dtype says.
    """

    name: str
    backend: str
    call: Any
    target: str = ""
    tested: str = ""
    rules: Any = field(default_factory=lambda: SCALED_DOT)
    dtypes: tuple = ("float32", "float64", "float16", "bfloat16")
    models: Any = field(default_factory=dict)
    known: tuple = ()
    needs: tuple = ()
    device: str | None = None
    note: str = ""

    def __reduce__(self):
        return rebuilt, (self.call.__module__, self.name)


class Called:
    """A preset's function under one rule."""

    def __init__(self, preset, rule, candidate=None):
        self.preset, self.rule, self.candidate = preset, rule, candidate
        self.__module__ = getattr(candidate, "__module__", "")
        self.__name__ = self.__qualname__ = getattr(candidate, "__qualname__", preset.name)
        options = declared(preset.call, 3 + bool(preset.target))
        declaring(self, None if options is None else sorted(options))

    def __call__(self, *arrays, **options):
        options = self.preset.rules[self.rule] | options
        first = (self.candidate or library_function(self.preset.target),) if self.preset.target else ()
        return self.preset.call(*first, *arrays, **options)


def rebuilt(module, name):
    """A preset in another process: the one of this name in its library's file."""
    return next(preset for preset in import_module(module).PRESETS if preset.name == name)


def library_function(target):
    """What `module:name` means."""
    module, _, name = target.partition(":")
    found = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def refuse(sentence):
    raise Unsupported(sentence)


def number(name, x):
    """An option that the library takes as a number only."""
    if x is not None and not isinstance(x, (int, float)):
        refuse(f"{name} is a number there, not an array")
    return x


def top_left(queries, keys, align, what="causal"):
    """Refuse what is not aligned at the top left."""
    if queries != keys and not (isinstance(align, (int, str)) and align in ("top_left", 0)):
        refuse(f"{what} is aligned at the top left there")


def bottom_right(queries, keys, align, what="causal"):
    corner = isinstance(align, (int, str)) and align in ("bottom_right", keys - queries)
    if queries != keys and not corner:
        refuse(f"{what} is aligned at the bottom right there")


def offset_of(queries, keys, align):
    """The offset, as a number."""
    if align is None or isinstance(align, str):
        return keys - queries if align == "bottom_right" else 0
    return align if isinstance(align, int) else refuse("an offset for each batch entry cannot be said there")


def four_axes(broadcast, *arrays):
    """The arrays with batch and head axes, and a function that takes away again what was put before."""
    added = 4 - len(arrays[0].shape)
    out = []
    for x in arrays:
        while len(x.shape) < 4:
            x = x[None]
        out.append(x)
    batch = max(x.shape[0] for x in out)
    out = [x if x.shape[0] == batch else broadcast(x, (batch, *x.shape[1:])) for x in out]
    return out, lambda x: x[(0,) * added] if added else x


def with_four_axes(x):
    """A mask or bias with batch and head axes of length 1 where it has none."""
    while x is not None and len(x.shape) < 4:
        x = x[None]
    return x


def equal_widths(pad, q, k, v, scale):
    """q, k, v of one width, filled up with zeros, the scale that keeps, and the width of v."""
    width, values = q.shape[-1], v.shape[-1]
    if width == values:
        return q, k, v, scale, values
    scale = width**-0.5 if scale is None else scale
    if width < values:
        q, k = (pad(x, values - width) for x in (q, k))
    else:
        v = pad(v, width - values)
    return q, k, v, scale, values
