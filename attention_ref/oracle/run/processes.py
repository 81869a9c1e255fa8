"""What a command line needs around a candidate: worker processes, and its prints kept out of the report.

A function goes to a worker by its target: a lambda, a closure or an object has no other name that could be sent.
"""

import ctypes
import io
import os
import pickle
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stdout
from functools import cache
from multiprocessing import get_context

from attention_ref.oracle.run import load


class Processes:
    """An executor of processes; `functions` are those that go by their target, {target: function}."""

    def __init__(self, count, functions):
        self.pool = ProcessPoolExecutor(count, get_context("spawn"), quiet)
        self.targets = {id(function): name for name, function in functions.items()}

    def submit(self, function, job):
        content = io.BytesIO()
        Pickler(content, self.targets).dump((function, job))
        return self.pool.submit(called, content.getvalue())

    def shutdown(self):
        self.pool.shutdown(cancel_futures=True)


class Pickler(pickle.Pickler):
    """One that writes a target in the place of what it names."""

    def __init__(self, file, targets):
        super().__init__(file)
        self.targets = targets

    def persistent_id(self, x):
        return self.targets.get(id(x))


class Unpickler(pickle.Unpickler):
    """One that loads what a target names."""

    def persistent_load(self, name):
        return loaded(name)


loaded = cache(load.load)


def called(content):
    """In the worker: the function of the job, called."""
    function, job = Unpickler(io.BytesIO(content)).load()
    return function(job)


class ToStandardError(io.TextIOBase):
    """A stream to standard error that nobody can close."""

    def write(self, text):
        return sys.stderr.write(text)

    def close(self):
        pass


def quiet():
    """Standard output led to standard error, also that of code in C."""
    os.dup2(2, 1)
    sys.stdout = ToStandardError()


@contextmanager
def aside():
    """Standard output led to standard error for a while: a candidate's prints are no part of the report."""
    sys.stdout.flush()
    kept, folder = os.dup(1), os.getcwd()
    os.dup2(2, 1)
    try:
        with redirect_stdout(ToStandardError()):
            yield
    finally:
        written_out()
        os.dup2(kept, 1)
        os.close(kept)
        os.chdir(folder)


def written_out():
    """What code in C has printed and holds back still."""
    flush = getattr(ctypes.pythonapi, "fflush", None)
    if flush:
        flush(None)
