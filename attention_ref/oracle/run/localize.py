"""Where an error sits, as data: in which heads, rows, keys or columns of a result, or in which stage before it."""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from attention_ref.oracle.run.trouble import Trouble, TroubleKind

# The sizes of blocks that kernels work in: an error at the border of one of them is named after it.
TILES = (256, 128, 64, 32, 16)
AXES = {
    "o": ("batch entry", "head", "row", "column"),
    "lse": ("batch entry", "head", "row"),
    "alpha": ("batch entry", "head", "row", "key"),
    "dq": ("batch entry", "head", "row", "column"),
    "dk": ("batch entry", "head", "key", "column"),
    "dv": ("batch entry", "head", "key", "column"),
}
PLURAL = {"batch entry": "batch entries"}
SHOWN = 6  # indices that are printed of an axis without a pattern
SHOWN_OF_SAMPLE = 4


@dataclass(frozen=True)
class AxisIndices:
    """Some of the indices of one axis."""

    axis: str
    indices: tuple[int, ...]
    length: int


class SeenKeys(Enum):
    LAST = "the last key"
    FIRST = "the first key"
    ANY = "any key"
    NONE = "no key"


@dataclass(frozen=True)
class KeyRange:
    """The keys from `start` up to and without `end`."""

    start: int
    end: int


@dataclass(frozen=True)
class Place:
    """Where the wrong elements of a result are.

    `axes` has the axes along which some indices are right everywhere; `rows_that_see` the keys that the wrong rows, and
    only they, may attend to.
    """

    wrong: int
    size: int
    axes: tuple[AxisIndices, ...] = ()
    rows_that_see: SeenKeys | KeyRange | None = None

    @property
    def pattern(self):
        """What several cases can have in common; None where everything is wrong, or no pattern is seen."""
        return self.rows_that_see or self.axes or None


@dataclass(frozen=True)
class SampledPlace:
    """Which of the sampled rows or keys are wrong, by their index in the whole."""

    axis: str
    indices: tuple[int, ...]
    sampled: int

    @property
    def pattern(self):
        return None  # each case samples other rows and keys


def locate(result, wrong, allowed=None):
    """The Place of the wrong elements; None where there are none."""
    if wrong is None or not wrong.any():
        return None
    count = int(np.count_nonzero(wrong))
    if wrong.all():
        return Place(count, wrong.size)
    names = AXES.get(result, ())[-wrong.ndim :]
    axes = []
    for axis, name in enumerate(names, start=wrong.ndim - len(names)):
        hit = wrong.any(axis=tuple(a for a in range(wrong.ndim) if a != axis))
        if not hit.all():
            axes.append(AxisIndices(name, tuple(np.flatnonzero(hit).tolist()), len(hit)))
    return Place(count, wrong.size, tuple(axes), keys_seen_by(result, wrong, allowed))


def keys_seen_by(result, wrong, allowed):
    """The keys that the wrong rows, and only they, may attend to; None if there are no such keys."""
    if allowed is None or result not in ("o", "dq"):
        return None
    rows = wrong.any(axis=-1)
    keys = allowed.shape[-1]
    allowed = np.broadcast_to(allowed, (*rows.shape, keys))
    for seen, where in key_sets(keys):
        seeing = allowed[..., where].any(axis=-1)
        if not seeing.all() and np.array_equal(rows, seeing):
            return seen
    if np.array_equal(rows, ~allowed.any(axis=-1)):
        return SeenKeys.NONE
    return None


def key_sets(keys):
    """The sets of keys that a kernel may treat in a way of its own, with their slices."""
    yield SeenKeys.LAST, slice(keys - 1, keys)
    yield SeenKeys.FIRST, slice(0, 1)
    for tile in TILES:
        for start in range(0, keys, tile):
            end = min(start + tile, keys)
            if end - start < keys:
                yield KeyRange(start, end), slice(start, end)
    yield SeenKeys.ANY, slice(0, keys)


def describe(place) -> str:
    """A clause on a place, such as "4 of 90 elements, only in heads 1, 2 of 3, rows 64 to 66 of 67"."""
    if place is None:
        return ""
    if isinstance(place, SampledPlace):
        some = ", ".join(map(str, place.indices[:SHOWN_OF_SAMPLE]))
        more = ", …" if len(place.indices) > SHOWN_OF_SAMPLE else ""
        return f"at {len(place.indices)} of {place.sampled} sampled {place.axis}s: {some}{more}"
    if place.wrong == place.size:
        return "everywhere"
    elements = f"{place.wrong} of {place.size} elements"
    if place.rows_that_see:
        return f"{elements}: {describe_pattern(place)}"
    return f"{elements}, only in {describe_pattern(place)}" if place.axes else f"{elements}, scattered"


def describe_pattern(place) -> str:
    """The same without the number of elements."""
    seen = place.rows_that_see
    if isinstance(seen, KeyRange):
        return f"exactly the rows that may attend to keys {seen.start} to {seen.end - 1}"
    if seen:
        return f"exactly the rows that may attend to {seen.value}"
    return ", ".join(map(describe_indices, place.axes))


def describe_indices(some: AxisIndices) -> str:
    name, indices, n = some.axis, some.indices, some.length
    first, last = indices[0], indices[-1]
    in_a_row = last - first + 1 == len(indices)
    names = PLURAL.get(name, f"{name}s")
    if in_a_row and last == n - 1 and first > 0:
        for tile in TILES:
            if n % tile and first == n // tile * tile:
                return f"the last partial tile of {names} ({first} to {last} of {n}, tile {tile})"
    if len(indices) == 1:
        return f"{name} {first} of {n}"
    if in_a_row:
        return f"{names} {first} to {last} of {n}"
    steps = np.unique(np.diff(indices))
    if len(steps) == 1 and len(indices) > 3:
        return f"{names} {first}, {first + int(steps[0])}, … {last} of {n} (every {ordinal(int(steps[0]))})"
    more = ", …" if len(indices) > SHOWN else ""
    return f"{names} {', '.join(map(str, indices[:SHOWN]))}{more} of {n}"


def ordinal(n):
    return {2: "second", 3: "third"}.get(n, f"{n}th")


def broken_stage(got, want, fmt):
    """The Trouble with the first stage of the tape that a candidate returns and has wrong; None if there is none."""
    for name, right in want.items():
        if name not in got:
            continue
        if got[name].shape != right.shape:
            return Trouble(TroubleKind.STAGE_SHAPE, {"stage": name, "got": got[name].shape, "want": right.shape})
        returned = np.asarray(got[name], np.float64)
        finite = np.isfinite(right)
        lost = np.count_nonzero(finite & ~np.isfinite(returned))
        if lost:
            return Trouble(TroubleKind.STAGE_NOT_FINITE, {"stage": name, "count": lost})
        unmasked = np.count_nonzero(~finite & np.isfinite(returned))
        if unmasked:
            return Trouble(TroubleKind.STAGE_FINITE, {"stage": name, "count": unmasked})
        largest = np.max(np.abs(right), initial=0, where=finite)
        error = np.max(np.abs(np.where(finite, returned, 0) - np.where(finite, right, 0)), initial=0)
        # A sum of n roundings grows like sqrt(n); 64 times that is far above rounding and far below a mistake.
        if not error <= 64 * right.shape[-1] ** 0.5 * 2.0**-fmt.bits * largest:
            return Trouble(TroubleKind.STAGE_OFF, {"stage": name, "error": float(error), "largest": float(largest)})
    return None
