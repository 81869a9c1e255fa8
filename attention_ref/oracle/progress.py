"""A progress bar on a terminal, for what takes a while."""

import sys

BAR = 32


def watched(things, total, name, least):
    """The things as they come, with a bar on a terminal if there are more than `least`; `name` says what one is."""
    shown = total > least and sys.stderr.isatty()
    for done, thing in enumerate(things, start=1):
        if shown:
            full = BAR * done // total
            bar = "█" * full + "·" * (BAR - full)
            sys.stderr.write(f"\r{bar} {done}/{total} {name(thing):<32.32}" + "\r\x1b[K" * (done == total))
            sys.stderr.flush()
        yield thing
