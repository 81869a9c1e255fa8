"""The two errors a caller can make: a shape that does not fit, an option that does not exist."""


class ShapeError(ValueError):
    """An array's shape does not fit the signature."""


class OptionError(ValueError):
    """An argument or option is missing, unknown, of the wrong kind or out of range."""


class CommandError(RuntimeError):
    """A command that is checked did not answer as the protocol says: a sentence, and what the command said to it."""

    def __init__(self, summary: str, detail: str = ""):
        super().__init__(summary, detail)
        self.summary, self.detail = summary, detail

    def __str__(self):
        return f"{self.summary}: {self.detail}" if self.detail else self.summary


class Unsupported(NotImplementedError):
    """What a library or a program cannot say; the message is the whole sentence."""
