"""Where an error sits: in which heads, rows, keys or columns of a result, and in which cases of a check."""

import numpy as np

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


def locate(result, wrong, allowed=None):
    """One clause on where the wrong elements are, such as "only in heads 1 and 2 of 3, rows 64-66 of 67"."""
    if wrong is None or not wrong.any():
        return ""
    if wrong.all():
        return "everywhere"
    names = AXES.get(result, ())[-wrong.ndim :]
    parts = []
    for axis, name in enumerate(names, start=wrong.ndim - len(names)):
        hit = wrong.any(axis=tuple(a for a in range(wrong.ndim) if a != axis))
        if not hit.all():
            parts.append(described(hit, name))
    special = rows_by_mask(result, wrong, allowed)
    share = f"{np.count_nonzero(wrong)} of {wrong.size} elements"
    if special:
        return f"{share}: {special}"
    return f"{share}, only in {', '.join(parts)}" if parts else f"{share}, scattered"


def described(hit, name):
    """The indices of one axis in words."""
    found, n = np.flatnonzero(hit), len(hit)
    first, last = int(found[0]), int(found[-1])
    whole = last - first + 1 == len(found)
    plural = PLURAL.get(name, f"{name}s")
    if whole and last == n - 1 and first > 0:
        for tile in TILES:
            if n % tile and first == n // tile * tile:
                return f"the last partial tile of {plural} ({first} to {last} of {n}, tile {tile})"
    if len(found) == 1:
        return f"{name} {first} of {n}"
    if whole:
        return f"{plural} {first} to {last} of {n}"
    steps = np.unique(np.diff(found))
    if len(steps) == 1 and len(found) > 3:
        return f"{plural} {first}, {first + int(steps[0])}, … {last} of {n} (every {ordinal(int(steps[0]))})"
    listed = ", ".join(map(str, found[:6])) + ", …" * (len(found) > 6)
    return f"{plural} {listed} of {n}"


def ordinal(n):
    return {2: "second", 3: "third"}.get(n, f"{n}th")


def rows_by_mask(result, wrong, allowed):
    """Whether the wrong rows are just those that the mask leaves empty, or just those that see certain keys."""
    if allowed is None or AXES.get(result, ())[-1:] != ("column",) or result not in ("o", "dq"):
        return ""
    rows = wrong.any(axis=-1)
    allowed = np.broadcast_to(allowed, (*rows.shape, allowed.shape[-1]))
    keys = allowed.shape[-1]
    for name, some in key_sets(keys):
        seeing = allowed[..., some].any(axis=-1)
        if not seeing.all() and np.array_equal(rows, seeing):
            return f"exactly the rows that may attend to {name}"
    if np.array_equal(rows, ~allowed.any(axis=-1)):
        return "exactly the rows that may attend to no key"
    return ""


def key_sets(keys):
    yield "the last key", slice(keys - 1, keys)
    yield "the first key", slice(0, 1)
    for tile in TILES:
        for start in range(0, keys, tile):
            end = min(start + tile, keys)
            if end - start < keys:
                yield f"keys {start} to {end - 1}", slice(start, end)
    yield "any key", slice(0, keys)


def broken_stage(got, want, fmt):
    """The first stage of the tape that a candidate returns and has wrong, with how wrong; "" if there is none."""
    for name, right in want.items():
        if name not in got:
            continue
        if got[name].shape != right.shape:
            return f"stage {name!r} has shape {got[name].shape}, expected {right.shape}"
        here = np.asarray(got[name], np.float64)
        finite = np.isfinite(right)
        if not np.array_equal(np.isfinite(here), finite):
            return f"stage {name!r} is the first that is wrong: it is not finite where it should be, or the other way"
        largest = np.max(np.abs(right), initial=0, where=finite)
        error = np.max(np.abs(here - np.where(finite, right, 0)), initial=0, where=finite)
        if not error <= 64 * right.shape[-1] ** 0.5 * 2.0**-fmt.bits * largest:
            size = f"off by {error:.2g}, where the largest entry is {largest:.2g}"
            return f"stage {name!r} is the first that is wrong: {size}"
    return ""


def in_common(runs):
    """What the failing cases have in common and no passing one has, as a sentence; "" if there is nothing."""
    failing = [run for run in runs if run.verdict in ("fail", "error")]
    passing = [run for run in runs if run.verdict in ("pass", "suspicious")]
    if not failing:
        return ""
    if not passing:
        return "every case that could be run fails"
    flags = list(dict.fromkeys(flag for run in failing for flag in run.flags))
    shared = [flag for flag in flags if all(flag in run.flags for run in failing)]
    several = f"all {len(failing)} failing cases have" if len(failing) > 1 else "the failing case has"
    for flag in shared:
        if not any(flag in run.flags for run in passing):
            return f"{several} the flag {flag}, and every case without it passes"
    return by_size(failing, passing) or shared_flags(several, shared) or only_results(failing)


def by_size(failing, passing):
    """A size that separates the failing cases from the passing ones: not a multiple of a tile, or beyond one."""
    for name in ("keys", "queries", "width", "values"):
        bad, good = ({getattr(run.size, name) for run in runs} for runs in (failing, passing))
        for tile in TILES:
            if all(n % tile and n > tile for n in bad) and not any(n % tile and n > tile for n in good):
                return f"it fails where there are more than {tile} {name} and no multiple of it, and only there"
        if min(bad) > max(good):
            return f"it fails from {min(bad)} {name} on, and only there"
    return ""


def shared_flags(several, shared):
    return f"{several} the flag{'s' * (len(shared) > 1)} {' and '.join(shared)}" if shared else ""


def only_results(failing):
    results = {c.result for run in failing for c in run.results if c.verdict == "fail"}
    return f"only {results.pop()} is wrong" if len(results) == 1 else ""
