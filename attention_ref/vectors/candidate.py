"""What the vectors judge: a function as it is, or a preset, a framework's function or a program as such a function."""

from dataclasses import dataclass
from inspect import signature

import numpy as np

from attention_ref.backend.command import Command
from attention_ref.conformance import libraries
from attention_ref.errors import OptionError
from attention_ref.oracle.run.adapt import adapt
from attention_ref.oracle.run.load import load
from attention_ref.pipeline.rule import find


def candidate_of(target, command=None, backend=None, rule=None):
    """The candidate that a command line names: TARGET, which may be a preset's name, or --command.

    A function gets NumPy arrays, unless `backend` names the framework whose arrays it wants.
    """
    if (target is None) == (command is None):
        raise OptionError("give a TARGET or --command, one of them")
    if command is not None:
        program = Command(command)
        return Framed(program, program.backward)
    if ":" in target:
        candidate = load(target)
        if backend is None:
            return candidate
    else:
        preset = libraries.find(target)
        candidate, backend = libraries.called(preset, rule or next(iter(preset.rules))), preset.backend
    adapter, called, backward = adapt(candidate, None, backend, None, find(rule or "scaled_dot"))
    return candidate if adapter.name == "numpy" else Framed(called, backward)


@dataclass
class Answer:
    """A candidate's results, and its backward where it has one."""

    o: np.ndarray
    alpha: np.ndarray | None = None
    lse: np.ndarray | None = None
    backward: object = None


class Framed:
    """A candidate and its backward, as the check calls them, as one function that answers the vectors."""

    def __init__(self, candidate, backward):
        self.candidate, self.back = candidate, backward
        self.__signature__ = signature(candidate)

    def __call__(self, q, k, v, **options):
        returned = self.candidate(q, k, v, **options)
        if isinstance(returned, (tuple, list)):
            returned = dict(zip(("o", "lse"), returned, strict=False))
        answer = Answer(**returned) if isinstance(returned, dict) else Answer(returned)
        if self.back is not None:

            def backward(do=None, dlse=None):
                if dlse is not None and answer.lse is None:
                    return {}
                do = np.zeros_like(answer.o) if do is None else do
                with_dlse = {} if dlse is None else {"dlse": dlse}
                return self.back(do, q, k, v, answer.o, answer.lse, **with_dlse, **options)

            answer.backward = backward
        return answer
