"""A progress bar on a terminal, for what takes a while."""

import sys
from time import perf_counter

BAR = 32
SOON = 2.0  # seconds after which a bar is drawn however few things there are


def watched(things, total, name, least):
    """The things as they come, with a bar on a terminal if there are more than `least` or it takes long."""
    start, shown = perf_counter(), False
    for done, thing in enumerate(things, start=1):
        shown = shown or (sys.stderr.isatty() and (total > least or perf_counter() - start > SOON))
        if shown:
            full = BAR * done // total
            bar = "█" * full + "·" * (BAR - full)
            sys.stderr.write(f"\r{bar} {done}/{total} {name(thing):<32.32}" + "\r\x1b[K" * (done == total))
            sys.stderr.flush()
        yield thing
