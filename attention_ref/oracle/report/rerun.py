"""The command that runs one case of a report again."""

from shlex import quote
from textwrap import wrap

from attention_ref.oracle.report.page import HELD, WIDTH, held
from attention_ref.oracle.run.trouble import TroubleKind

WHOLE = 521  # keys of a case that is to be run whole: several tiles of most kernels, none of which it is a multiple of


def command(report, run):
    """The command that runs this one case again."""
    return " ".join(words(report, run))


def words(report, run, whole=False, dtype=None):
    """The same option by option; `whole` for all of the case, at a length that is small enough."""
    meta = report.meta
    name = meta["candidate"]
    target = name if ":" in name or name.startswith("--command") or name == meta["preset"] else "TARGET"
    target = target if target.startswith("--command") else quote(target)
    length = min(run.size.keys, WHOLE) if whole else meta["length"]
    dtype = dtype or run.dtype
    model = meta["models"].get(dtype)
    # What ends its process is run in a worker again: it would end the command itself.
    died = run.trouble is not None and run.trouble.kind is TroubleKind.DIED
    options = {
        "case": run.case,
        "seed": str(meta["seed"]),
        "sample": meta["sample"] and not whole and str(meta["sample"]),
        "length": length and str(length),
        "rule": meta["rule"] != "scaled_dot" and meta["rule"],
        "preset": target != meta["preset"] and meta["preset"],
        "dtypes": dtype != "float32" and dtype,
        "models": model and f"{dtype}={model}",
        "backward": ":" in (meta["backward"] or "") and meta["backward"],
        "timeout": meta["timeout"] and f"{meta['timeout']:g}",
        "jobs": died and "2",
    }
    return [f"attention-ref check {target}"] + [f"--{name} {quote(x)}" for name, x in options.items() if x]


def broken(parts):
    """A command in lines that a shell reads as one, no option parted from its value."""
    line = " ".join(map(held, parts))
    lines = wrap(line, WIDTH - 8, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return [line.replace(HELD, " ") + " \\" for line in lines[:-1]] + [lines[-1].replace(HELD, " ")]
