"""A candidate that is another program: arrays on its standard input, results on its standard output.

docs/subprocess-protocol.md has the protocol. Every call starts the program anew.
"""

import json
import shlex
import signal
import subprocess

import numpy as np

from attention_ref.backend import wire
from attention_ref.errors import CommandError, OptionError, Unsupported

PROTOCOL = "1"
SECONDS = 60.0


class Command:
    """A program as a candidate; `backward` is the same program, asked for gradients."""

    def __init__(self, command, timeout=None):
        try:
            self.arguments = shlex.split(command) if isinstance(command, str) else list(command)
        except ValueError as error:
            raise OptionError(f"check: the command {command!r} is not one that a shell reads: {error}") from None
        if not self.arguments:
            raise OptionError("check: the command is empty; give one such as './kernel'")
        self.timeout = SECONDS if timeout is None else timeout
        self.__name__ = self.__qualname__ = f"--command {shlex.quote(shlex.join(self.arguments))}"
        self.__module__ = ""

    def __call__(self, q, k, v, **options):
        return self.ask("forward", {"q": q, "k": k, "v": v}, options)

    def backward(self, do, q, k, v, o, lse, *, dlse=None, **options):
        arrays = {"do": do, "q": q, "k": k, "v": v, "o": o, "lse": lse, "dlse": dlse}
        found = self.ask("backward", {name: x for name, x in arrays.items() if x is not None}, options)
        return {name.removeprefix("d"): x for name, x in found.items()}

    def ask(self, role, arrays, options):
        """One run of the program: what it was given, what it answered."""
        words = {"protocol": PROTOCOL, "role": role}
        for name, x in options.items():
            if name == "dropout":
                arrays["dropout"], x = x
            if isinstance(x, np.ndarray):
                arrays[name] = x
            else:
                words[f"option.{name}"] = json.dumps(x)
        found, words = self.read(self.run(wire.encode(arrays, words)))
        if "unsupported" in words:
            raise Unsupported(words["unsupported"])
        return found

    def run(self, content):
        try:
            done = subprocess.run(self.arguments, input=content, capture_output=True, timeout=self.timeout)
        except subprocess.TimeoutExpired:
            raise CommandError(f"it had not answered after {self.timeout:g} s and was ended") from None
        except BrokenPipeError:
            raise CommandError("it closed its standard input before it had read the case") from None
        except OSError as error:
            raise CommandError("it cannot be started", f"{error.strerror}: {self.arguments[0]}") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2][:160]
            raise CommandError(ended(done.returncode), said)
        return done.stdout

    def read(self, content):
        try:
            return wire.decode(content)
        except ValueError as error:
            raise CommandError(str(error)) from None


def ended(status):
    if status > 0:
        return f"it ended with exit status {status}"
    try:
        return f"it crashed with {signal.Signals(-status).name}"
    except ValueError:
        return f"it was ended by signal {-status}"
