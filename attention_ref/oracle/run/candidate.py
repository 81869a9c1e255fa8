"""Running someone else's function: whatever it does comes back as results or as a verdict with one sentence."""

import ctypes
import queue
import threading
import traceback
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path

import numpy as np

from attention_ref.errors import CommandError, Unsupported
from attention_ref.op.words import shorten
from attention_ref.oracle.run.trouble import Hint, Trouble, TroubleKind

RESULTS = ("o", "lse", "alpha")
STAGES = ("score", "scaled", "capped", "biased", "masked", "dropped")


class Abandoned(BaseException):
    """Raised inside a candidate that has run out of time."""


@dataclass(frozen=True)
class Call:
    """One call to make: the function, its arrays by name in order, its options by name, the seconds it may take."""

    function: object
    arrays: dict
    options: dict
    timeout: float | None = None
    role: str = "forward"

    def inputs(self):
        """Every array that goes in, by name."""
        for name, x in (self.arrays | self.options).items():
            for part in x if isinstance(x, tuple) else (x,):
                if isinstance(part, np.ndarray):
                    yield name, part


def missing(options, names):
    """The options that a case uses and the function does not declare."""
    return [] if names is None else [name for name in options if name not in names]


def run(call):
    """(results by name, None), copied out of the candidate's hands, or (what can be used, Trouble)."""
    before = [(name, x, digest(x)) for name, x in call.inputs()]
    returned, trouble = attempt(call) if call.timeout is None else limited(call)
    if trouble:
        return {}, trouble
    results, trouble = named(returned, call.role)
    if trouble:
        return {}, trouble
    written = [name for name, x, bits in before if digest(x) != bits]
    if written:
        trouble = Trouble(TroubleKind.WRITES_INPUT, {"input": written[0]}, call.role)
    for name, result in results.items():
        for source, x in call.inputs():
            if not trouble and np.may_share_memory(result, x):
                trouble = Trouble(TroubleKind.RETURNS_VIEW, {"result": name, "input": source}, call.role)
    return {name: np.array(x) for name, x in results.items()}, trouble


def digest(x):
    """What tells whether an array has changed, without a copy of it."""
    return blake2b(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data).digest()


def attempt(call):
    try:
        with np.errstate(all="ignore"):
            return call.function(*call.arrays.values(), **call.options), None
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        return None, trouble_of(error, call.function, call.role)


def trouble_of(error, function, role="forward"):
    """What an exception means, with the line of code that it came from and, where it helps, what to do."""
    if isinstance(error, Unsupported):
        return Trouble(TroubleKind.CANNOT_SAY, {"reason": message_of(error)}, role)
    if isinstance(error, CommandError):
        facts = {"summary": on_one_line(error.summary), "message": on_one_line(error.detail)}
        return Trouble(TroubleKind.COMMAND_FAILED, facts, role)
    facts = {
        "exception": type(error).__name__,
        "message": shorten(message_of(error), 161),
        "location": line_of(error, function),
    }
    if isinstance(error, NotImplementedError):
        return Trouble(TroubleKind.REFUSED, facts, role)
    return Trouble(TroubleKind.RAISED, facts | {"hint": hint(error, role)}, role)


def message_of(error):
    try:
        return on_one_line(str(error))
    except Exception:  # an exception of the candidate's own, whose __str__ raises
        return ""


def on_one_line(text):
    return " ".join(text.split())


def line_of(error, function):
    """The last line of the function's own file that the exception passed through, "" if it passed through none."""
    home = getattr(getattr(plain(function), "__code__", None), "co_filename", None)
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == home]
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""


def plain(function):
    """The function with code of its own behind a partial or an object that can be called."""
    if isinstance(function, partial):
        return plain(function.func)
    return function if hasattr(function, "__code__") else type(function).__call__


def hint(error, role):
    """What to do about a call that does not fit the signature. The words looked for are Python's own."""
    text = message_of(error) if isinstance(error, TypeError) else ""
    if "positional argument" in text and "given" in text:
        return Hint.CALLED_BACKWARD if role == "backward" else Hint.CALLED_FORWARD
    if "required" in text:
        return Hint.GIVE_DEFAULTS
    if "unexpected keyword argument" in text:
        return Hint.LEAVE_OPTION_OUT
    return Hint.NONE


def limited(call):
    """`attempt` in a thread of its own, left behind when the time is up.

    A thread and not a process: a candidate may hold a device, a closure or a lambda, which no other process can have.
    One that loops in Python is stopped by an exception raised in its thread; one that hangs in C is left to hang, in a
    daemon thread that does not keep the interpreter from ending.
    """
    answer = queue.SimpleQueue()
    thread = threading.Thread(target=lambda: answer.put(attempt(call)), daemon=True)
    thread.start()
    try:
        return answer.get(timeout=call.timeout)
    except queue.Empty:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Abandoned))
        return None, Trouble(TroubleKind.TIMED_OUT, {"seconds": call.timeout}, call.role)


def named(returned, role):
    """(results by name, None) from what a candidate returned, or ({}, Trouble)."""
    if isinstance(returned, np.ndarray) and role == "forward":
        returned = {"o": returned}
    elif isinstance(returned, (tuple, list)) and role == "forward":
        if not 1 <= len(returned) <= 2:
            return {}, Trouble(TroubleKind.RETURNS_TOO_MANY, {"count": len(returned)}, role)
        returned = dict(zip(("o", "lse"), returned, strict=False))
    if not isinstance(returned, dict):
        return {}, Trouble(TroubleKind.RETURNS_OTHER, {"type": type_name(returned)}, role)
    results = {name: x for name, x in returned.items() if x is not None}
    for name, x in results.items():
        if not isinstance(x, (np.ndarray, np.generic)):
            return {}, Trouble(TroubleKind.NO_ARRAY, {"result": name, "type": type_name(x)}, role)
    if role == "backward" and results and {"dq", "dk", "dv"} >= set(results):
        return {}, Trouble(TroubleKind.GRADIENT_NAMES, {"names": tuple(results)}, role)
    if role == "forward" and "o" not in results:
        return {}, Trouble(TroubleKind.NO_OUTPUT, {}, role)
    return results, None


def type_name(x):
    if x is None:
        return "None"
    module = type(x).__module__.partition(".")[0]
    return f"a {type(x).__name__}" if module == "builtins" else f"a {module}.{type(x).__name__}"
