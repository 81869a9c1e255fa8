"""One line of progress on a terminal, for what takes longer than two seconds."""

import sys
from time import monotonic

PATIENCE = 2.0


class Progress:
    """Counts steps; writes only where somebody watches."""

    def __init__(self, total, stream=None):
        self.total, self.done, self.shown = total, 0, False
        self.stream = sys.stderr if stream is None else stream
        self.next = monotonic() + PATIENCE

    def __enter__(self):
        return self

    def step(self):
        self.done += 1
        if monotonic() > self.next and self.done < self.total and self.stream.isatty():
            self.next, self.shown = monotonic() + PATIENCE / 10, True
            self.stream.write(f"\rattention: {100 * self.done // self.total} %")
            self.stream.flush()

    def __exit__(self, *error):
        if self.shown:
            self.stream.write("\r" + " " * 20 + "\r")
            self.stream.flush()
