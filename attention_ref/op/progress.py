"""A progress bar on standard error: on a terminal only, cleared when the work is done."""

import sys
from time import monotonic

PATIENCE = 2.0  # seconds that a user waits without wondering whether anything happens
PAUSE = 0.1  # seconds between two drawings: fast enough for the eye, and thousands of short steps write little
WIDTH = 32
COLUMNS = 79  # a longer line would wrap on a terminal of 80, and \r would no longer return to its start


class Progress:
    """Counts steps, and draws them from `patience` seconds on."""

    def __init__(self, total, patience=None, done=0):
        self.total, self.done, self.drawn = total, done, False
        self.next_drawing = monotonic() + (PATIENCE if patience is None else patience)

    def __enter__(self):
        return self

    def step(self, words="attention"):
        self.done += 1
        last = self.drawn and self.done == self.total
        if (last or monotonic() >= self.next_drawing) and sys.stderr.isatty():
            self.drawn, self.next_drawing = True, monotonic() + PAUSE
            full = WIDTH * self.done // self.total
            line = f"{'█' * full}{'·' * (WIDTH - full)} {self.done}/{self.total} {words}"
            sys.stderr.write(f"\r{line[:COLUMNS]}\x1b[K")
            sys.stderr.flush()

    def __exit__(self, *error):
        if self.drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def watched(things, total, name, many):
    """The things as they come, counted; the bar is drawn at once if there are more than `many`."""
    with Progress(total, patience=0 if total > many else None) as progress:
        for thing in things:
            progress.step(name(thing))
            yield thing
