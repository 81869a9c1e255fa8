"""A case: a shape, a family of values, options, a layout; its flags, and the bug that it catches."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import numpy as np

from attention_ref.oracle.cases import layouts, option_values, value_families
from attention_ref.oracle.cases.flags import flags_of_case
from attention_ref.oracle.run.truth import allowed_pairs
from attention_ref.pipeline.rule import Rule

POSITIONAL = ("causal", "window", "align", "alibi_slopes", "relative_table", "q_lengths", "q_segments")


@dataclass(frozen=True)
class Size:
    """The shapes of a case: q is (batch, heads, queries, width), k and v have `groups` heads and `keys` rows.

    v is `values` wide. `groups=None` means as many as `heads`; `axes` is the number of leading axes.

    >>> from attention_ref.oracle.cases.case import Size
    >>> Size(3, 200, heads=8, groups=2).shapes()
    {'q': (2, 8, 3, 16), 'k': (2, 2, 200, 16), 'v': (2, 2, 200, 11)}
    """

    queries: int
    keys: int
    width: int = 16
    values: int = 11
    batch: int = 2
    heads: int = 3
    groups: int | None = None
    axes: int = 2

    @property
    def key_heads(self) -> int:
        return self.heads if self.groups is None else self.groups

    def shapes(self, shared: tuple[str, ...] = ()) -> dict[str, tuple[int, ...]]:
        """The shapes of q, k and v with this many leading axes; a shared one has no batch axis."""
        whole = {
            "q": (self.batch, self.heads, self.queries, self.width),
            "k": (self.batch, self.key_heads, self.keys, self.width),
            "v": (self.batch, self.key_heads, self.keys, self.values),
        }
        missing = {name: 2 - self.axes + (name in shared) for name in whole}
        return {name: shape[min(missing[name], 2) :] for name, shape in whole.items()}


SMALL = Size(11, 13)
SQUARE = Size(19, 19)
WIDE = Size(13, 23)
TALL = Size(23, 13)
PACKED = Size(29, 29)  # three documents of unequal length
TILED = Size(37, 67, 32, 17)
GROUPED = Size(13, 19, heads=6, groups=2)


@dataclass(frozen=True)
class Case:
    """One case for `ar.check`: shapes, options, a family of values; `why` names the bug that it catches.

    >>> from attention_ref.oracle.cases.case import Case, Size
    >>> options = {"causal": True, "align": "bottom_right"}
    >>> Case("cache-200", "a short prompt after a long cache", Size(3, 200), options).flags
    ('Causal', 'Align')

    Args:
        name: what reports call it
        why: the sentence
        size: a `Size`
        options: of `ar.attention`, by name
        values: the family that q, k and v are drawn from
        layout: how the arrays lie in memory
        shared: which of q, k, v have no batch axis
        poison: a number written wherever it must not matter
        more: further flags
        backward: whether gradients are checked too
        core: whether it is one of the core cases
    """

    name: str
    why: str
    size: Size
    options: dict = field(default_factory=dict, hash=False)
    values: str = "gaussian"
    layout: str = "contiguous"
    shared: tuple[str, ...] = ()
    poison: float | None = None
    more: tuple[str, ...] = ()
    backward: bool = True
    core: bool = True

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags by which `cases=` selects it."""
        return tuple(dict.fromkeys((*flags_of_case(self), *self.more)))

    def unfit(self, rule: Rule) -> str:
        """Why a rule cannot be tested by this case; "" if it can."""
        pipeline = rule.module
        if not pipeline.pairwise and (self.poison is not None or set(self.options) & set(POSITIONAL)):
            return f"the rule {rule.name} has no key positions"
        if not pipeline.pairwise and self.size.groups is not None:
            return f"the rule {rule.name} has no groups of key heads"
        if pipeline.own_normalize != "softmax" and set(self.options) & {"sink", "normalize"}:
            return f"the rule {rule.name} has a normalizer of its own"
        return ""


def case(
    name: str,
    size: Size,
    *,
    catches: str,
    values: str = "gaussian",
    layout: str = "contiguous",
    shared: tuple[str, ...] = (),
    poison: float | None = None,
    flags: Sequence[str] = (),
    backward: bool = True,
    core: bool = True,
    **options: Any,
) -> Case:
    """A row of the tables of cases: a `Case` whose options are keywords, as in a call of `ar.attention`."""
    return Case(name, catches, size, options, values, layout, shared, poison, tuple(flags), backward, core)


@dataclass(frozen=True)
class Inputs:
    """What one run gets: q, k, v, the options and rule parameters, the cotangents do and dlse."""

    arrays: dict[str, np.ndarray]
    options: dict
    do: np.ndarray
    dlse: np.ndarray


def build(case: Case, rule: Rule, fmt: Any, seed: int = 0) -> Inputs:
    """Fresh inputs, rounded to the format, the same for the same (case, rule, format, seed)."""
    rng = np.random.default_rng([seed, crc32(case.name.encode())])
    shapes = case.size.shapes(case.shared)
    parameters = drawn_parameters(rule, rng, shapes, case.size)
    q, k, v = value_families.FAMILIES[case.values](rng, *shapes.values())
    do = rng.standard_normal((*np.broadcast_shapes(*(s[:-2] for s in spread(shapes))), case.size.queries, v.shape[-1]))
    dlse = rng.standard_normal(do.shape[:-1])
    options = {name: option_values.make(value, rng, case.size) for name, value in case.options.items()}
    arrays = {"q": q, "k": k, "v": v}
    if case.poison is not None:
        arrays, options = poisoned(arrays, options, case)
    place = layouts.LAYOUTS[case.layout]
    arrays = {name: place(x.astype(fmt.dtype)) for name, x in arrays.items()}
    options = {name: rounded(x, fmt) for name, x in (options | parameters).items()}
    return Inputs(arrays, options, place(do.astype(fmt.dtype)), dlse.astype(fmt.wide))


def spread(shapes: Any) -> Any:
    """The shapes as they broadcast, grouped heads counted as the query's."""
    heads = shapes["q"][:-2][-1:]
    return [s if len(s) < 3 or s[-3] == 1 else (*s[:-3], *heads, *s[-2:]) for s in shapes.values()]


def drawn_parameters(rule: Rule, rng: np.random.Generator, shapes: dict, size: Size) -> dict[str, np.ndarray]:
    """The score's own parameters, and for a rule with two widths or no key positions, another shape for k."""
    q, k, *_ = rule.signature.arguments
    letters = {axis.text for axis in (*q.axes, *k.axes)}
    sizes = {"i": size.queries, "j": size.keys, "d": size.width, "e": size.values}
    if "c" in letters:
        sizes["c"] = size.width + 3
        rows = size.queries if not rule.module.pairwise else size.keys
        shapes["k"] = (*shapes["k"][:-2], rows, sizes["c"])
    names = rule.module.parameters
    every = {axis.text for argument in rule.signature.arguments for axis in argument.axes}
    sizes |= {"x": 7} if "x" in every else {}
    return {name: x for name, x in rule.signature.draw(rng, sizes).items() if name in names}


def rounded(x: Any, fmt: Any) -> Any:
    if isinstance(x, tuple):
        return tuple(rounded(part, fmt) for part in x)
    return x.astype(fmt.dtype) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x


def poisoned(arrays: dict, options: dict, case: Case) -> Any:
    """The poison wherever it must not matter: keys and values nobody may attend to, queries that may attend to none.

    A bias is poisoned where the masks close it.
    """
    shape = np.broadcast_shapes(*(s[:-2] for s in spread(case.size.shapes(case.shared))))
    allowed = allowed_pairs(case.size.queries, case.size.keys, options)
    allowed = np.broadcast_to(allowed, (*shape, case.size.queries, case.size.keys))
    unseen, blind = ~allowed.any(axis=-2), ~allowed.any(axis=-1)
    out = {
        name: np.where(folded(unseen if name in "kv" else blind, x.shape[:-1])[..., None], case.poison, x)
        for name, x in arrays.items()
    }
    if "bias" in options:
        x = options["bias"]
        closed = folded(~allowed, x.shape)
        options = options | {"bias": np.where(closed & np.isfinite(x), case.poison, x)}
    return out, options


def folded(mask: Any, shape: tuple[int, ...]) -> Any:
    """A mask in a smaller shape: true where all that broadcasts or groups into an element is true."""
    mask = mask.reshape((1,) * (len(shape) - mask.ndim) + mask.shape)
    mask = mask.all(axis=tuple(range(mask.ndim - len(shape))))
    for axis, n in enumerate(shape):
        if mask.shape[axis] != n:
            mask = mask.reshape(*mask.shape[:axis], n, -1, *mask.shape[axis + 1 :]).all(axis=axis + 1)
    return mask
