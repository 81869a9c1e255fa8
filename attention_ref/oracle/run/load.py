"""A function by the name that a command line gives it, and the name that a report gives a function."""

import importlib
import importlib.util
import os
import sys
from functools import cache, partial
from importlib.machinery import SourceFileLoader
from inspect import isclass, ismethod
from traceback import extract_tb

from attention_ref.errors import OptionError


def load(target):
    """The function that `package.module:name` or `file.py:name` means."""
    home, colon, name = target.rpartition(":")
    if not colon or not home or not name:
        raise OptionError(f"a target is package.module:function or file.py:function; got {target!r}")
    try:
        found = from_file(home) if home.endswith(".py") else from_package(home)
    except FileNotFoundError as error:
        if error.filename != home:
            raise OptionError(f"cannot import {home}: {exception_in(error, home)}") from None
        raise OptionError(f"there is no file {home}") from None
    except ImportError as error:
        raise OptionError(f"cannot import {home}: {error}") from None
    except SyntaxError as error:
        line = f"line {error.lineno}: " if error.lineno else ""
        raise OptionError(f"cannot import {home}: {line}{error.msg}") from None
    except (Exception, SystemExit) as error:
        raise OptionError(f"cannot import {home}: {exception_in(error, home)}") from None
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError:
        raise OptionError(f"there is no {name} in {home}") from None
    return found


def exception_in(error, path):
    """What importing a file came to, with the line of it where it is known."""
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == path]
    where = f" (line {lines[-1]})" if lines else ""
    return f"it raised {type(error).__name__}: {error}"[:200] + where


def from_package(name):
    """A module, the working directory included in the search as `python -m` does."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return importlib.import_module(name)


def from_file(path):
    """The module of a file, one for all functions of it: a forward may leave something there for its backward."""
    status = os.stat(path)
    return executed(path, os.path.abspath(path), status.st_mtime_ns, status.st_size)


@cache
def executed(path, *state):
    """The module of a file in this state."""
    name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_loader(name, SourceFileLoader(name, path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(name, module)
    folder = os.path.dirname(os.path.abspath(path))
    if folder not in sys.path:
        sys.path.append(folder)
    spec.loader.exec_module(module)
    return module


def name_of(function):
    """`module:name` of a function, `file.py:name` if its module is the one that runs, or only its name."""
    if isinstance(function, partial):
        return f"partial of {name_of(function.func).rpartition(':')[2]}"
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if not module or not name or "<" in name or (ismethod(function) and not isclass(function.__self__)):
        return getattr(function, "__name__", type(function).__name__)
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    if module == "__main__" and path:
        module = min(os.path.relpath(path), path, key=len)
    return f"{module}:{name}"
