"""A progress bar, on a terminal only."""

import sys

BAR = 32


def show(done, total, words):
    """Draw how much is done and a few words; at the end the line is cleared."""
    if not sys.stderr.isatty():
        return
    full = BAR * done // total
    sys.stderr.write(f"\r{'█' * full}{'·' * (BAR - full)} {done}/{total} {words:<48.48}" + "\r\x1b[K" * (done == total))
    sys.stderr.flush()
