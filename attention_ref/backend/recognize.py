"""Which framework a candidate is written in, from what it is and what its code mentions; nothing is imported."""

import inspect
import sys
from types import CodeType, ModuleType

from attention_ref.backend import NAMES, kind

ROOTS = {root: name for name in NAMES for root in kind(name).roots}


def framework_of(module):
    """The backend that a dotted module name belongs to; None for all others."""
    return ROOTS.get((module or "").partition(".")[0])


def of_value(x):
    """The backend that an array is of, by the module of its type; NumPy's arrays too."""
    for base in type(x).__mro__:
        root = base.__module__.partition(".")[0]
        if root in ROOTS or root == "numpy":
            return ROOTS.get(root, root)
    return None


def certain(candidate):
    """The backend that a candidate says it is for: its type, the module it comes from, or its annotations."""
    found = of_value(candidate) or framework_of(getattr(inspect.unwrap(candidate), "__module__", ""))
    if found and found != "numpy":
        return found
    notes = getattr(candidate, "__annotations__", {}) or getattr(type(candidate), "__annotations__", {})
    scope = getattr(inspect.unwrap(candidate), "__globals__", {})
    for note in notes.values():
        found = of_annotation(note, scope)
        if found:
            return found
    return None


def of_annotation(note, scope):
    if not isinstance(note, str):
        return framework_of(getattr(note, "__module__", ""))
    first = note.partition("[")[0].partition(".")[0].strip("'\" ")
    known = scope.get(first)
    return of_object(known) if known is not None else framework_of(first)


def of_object(x):
    """The backend that a module, class or function comes from."""
    if isinstance(x, ModuleType):
        return framework_of(x.__name__)
    return framework_of(getattr(x, "__module__", "") or "") or framework_of(type(x).__module__)


def mentioned(candidate):
    """The backends whose names the candidate's code mentions, its own helpers included, in order of appearance."""
    found, seen, waiting = {}, set(), [candidate]
    while waiting:
        function = waiting.pop(0)
        function = inspect.unwrap(getattr(function, "func", function))
        if not hasattr(function, "__code__"):
            function = vars(type(function)).get("__call__")
        code = getattr(function, "__code__", None)
        if not isinstance(code, CodeType) or code in seen:
            continue
        seen.add(code)
        for name, value in reached(function, code):
            backend = of_object(value)
            if backend:
                found[backend] = None
            elif getattr(value, "__module__", "") == function.__module__ and name != function.__name__:
                waiting.append(value)
    return [name for name in found if kind(name).package in sys.modules]


def imported(candidate):
    """The backends that the candidate's module has imported, whether or not its code mentions them."""
    scope = getattr(inspect.unwrap(candidate), "__globals__", {})
    found = dict.fromkeys(of_object(value) for value in scope.values())
    return [name for name in found if name and kind(name).package in sys.modules]


def reached(function, code):
    """(name, value) of what code reaches by name: globals, closed-over variables, modules imported inside."""
    names, pending = dict.fromkeys(code.co_names), [code]
    while pending:
        for part in pending.pop().co_consts:
            if isinstance(part, CodeType):
                names |= dict.fromkeys(part.co_names)
                pending.append(part)
    for name in names:
        if name in function.__globals__:
            yield name, function.__globals__[name]
        elif name in sys.modules and framework_of(name):
            yield name, sys.modules[name]
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:
            continue
