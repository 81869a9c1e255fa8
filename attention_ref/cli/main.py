"""`attention-ref COMMAND …`: the table of the commands, their help page, and what becomes of an error."""

import argparse
import os
import sys
from importlib import import_module

from attention_ref import __version__
from attention_ref.errors import OptionError, ShapeError
from attention_ref.op.words import printable

COMMANDS = {
    "rules": "print the catalog of attention rules",
    "mechanisms": "print the catalog of mechanisms",
    "check": "check an attention function against the oracle",
    "cases": "list the cases, and the bug that each one catches",
    "explain": "print a case: its inputs and what should come out",
    "matrix": "check every preset that can run here",
    "power": "plant faults in correct kernels and see which a check finds and names",
    "demo": "check a correct and a subtly wrong attention, and draw where the wrong one is off",
    "vectors": "golden vectors: list, lint, verify a candidate, export",
    "plot": "draw the weights in a file: .npy, .npz or .safetensors",
    "train": "train a translator, or a reverser, in front of you",
}
STOPPED = 130  # 128 + SIGINT's number, as shells report a process that Ctrl-C ended


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence, raised."""

    def error(self, message):
        raise OptionError(f"{message}; see {self.prog} --help")


def main(argv=None) -> int:
    """Run one command; 0 when all is well, 1 when a check failed, 2 for a usage error."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal without Unicode gets ? for α
    try:
        argv = sys.argv[1:] if argv is None else list(argv)
        args = parser(argv).parse_args(argv)
        status = args.run(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader has stopped, as `head` does. What Python flushes at its end must go somewhere that takes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return refuse("stopped", STOPPED)
    except OSError as error:
        return refuse(f"cannot write {error.filename}: {error.strerror}")
    except (ShapeError, OptionError) as error:
        return refuse(error)


def refuse(sentence, status=2):
    print(f"attention-ref: {printable(str(sentence))}", file=sys.stderr)  # it may quote a file of a stranger's
    return status


def parser(argv):
    """The parser of all commands; only the one that `argv` names is imported, so that the others cost nothing."""
    top = Parser(prog="attention-ref", description="The numerical oracle for attention.")
    top.add_argument("--version", action="version", version=f"attention-ref {__version__}")
    subparsers = top.add_subparsers(metavar="COMMAND", required=True)
    command = next((word for word in argv if not word.startswith("-")), None)
    for name, sentence in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=sentence)
        if name == command:
            module = import_module(f"attention_ref.cli.{name}")
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    return top
