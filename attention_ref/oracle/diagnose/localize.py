"""In which cases of a check an error shows: what they have in common, in a sentence."""

from attention_ref.oracle.run.localize import TILES


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
    if not shared:
        return ""
    return f"{several} the flag{'s' if len(shared) > 1 else ''} {' and '.join(shared)}"


def only_results(failing):
    results = {c.result for run in failing for c in run.results if c.verdict == "fail"}
    return f"only {results.pop()} is wrong" if len(results) == 1 else ""
