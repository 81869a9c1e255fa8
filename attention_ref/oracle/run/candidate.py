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

RESULTS = ("o", "lse", "alpha")
STAGES = ("score", "scaled", "capped", "biased", "masked", "dropped")
RESULT_OF = {"forward": "return o, (o, lse) or a dict with 'o'", "backward": 'return a dict such as {"q": dq, "k": dk}'}

CALLED = {"forward": "candidate(q, k, v, **options)", "backward": "backward(do, q, k, v, o, lse, **options)"}


class Abandoned(BaseException):
    """Raised inside a candidate that has run out of time."""


@dataclass(frozen=True)
class Trouble:
    """A verdict on a call, and its sentence."""

    verdict: str
    sentence: str


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
        trouble = Trouble("fail", f"it writes into its input {written[0]}")
    for name, result in results.items():
        for source, x in call.inputs():
            if not trouble and np.may_share_memory(result, x):
                trouble = Trouble("fail", f"its result {name} is a view of its input {source}, not an array of its own")
    return {name: np.array(x) for name, x in results.items()}, trouble


def digest(x):
    """What tells whether an array has changed, without a copy of it."""
    return blake2b(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data).digest()


def attempt(call):
    try:
        with np.errstate(all="ignore"):
            return call.function(*call.arrays.values(), **call.options), None
    except NotImplementedError as error:
        return None, Trouble("unsupported", told(error, call.function, call.role))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        return None, Trouble("error", told(error, call.function, call.role))


def told(error, function, role="forward"):
    """An exception as one sentence, with the line of code it came from and, where it helps, what to do."""
    text = " ".join(said(error).split())
    if isinstance(error, (CommandError, Unsupported)):
        return text
    text = f"it raised {type(error).__name__}" + f": {text[:160]}{'…' * (len(text) > 160)}" * bool(text)
    frames = traceback.extract_tb(error.__traceback__)
    home = getattr(getattr(plain(function), "__code__", None), "co_filename", None)
    own = [frame for frame in frames if frame.filename == home]
    if own:
        text += f" ({Path(own[-1].filename).name}:{own[-1].lineno})"
    return text + hint(error, role)


def said(error):
    try:
        return str(error)
    except Exception:
        return ""


def plain(function):
    """The function with code of its own behind a partial or an object that can be called."""
    if isinstance(function, partial):
        return plain(function.func)
    return function if hasattr(function, "__code__") else type(function).__call__


def hint(error, role):
    """What to do about a call that does not fit the signature."""
    text = said(error) if isinstance(error, TypeError) else ""
    if "positional argument" in text and "given" in text:
        return f"; it is called as {CALLED[role]}"
    if "required" in text:
        return "; give every option a default, a case passes only those that it uses"
    if "unexpected keyword argument" in text:
        return "; leave an option that it does not have out of the signature, or raise NotImplementedError"
    return ""


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
        return None, Trouble("error", f"it had not returned after {call.timeout:g} s (timeout=)")


def named(returned, role):
    """(results by name, None) from what a candidate returned, or ({}, Trouble)."""
    right = RESULT_OF[role]
    if isinstance(returned, np.ndarray) and role == "forward":
        returned = {"o": returned}
    elif isinstance(returned, (tuple, list)) and role == "forward":
        if not 1 <= len(returned) <= 2:
            return {}, Trouble("error", f"it returned {len(returned)} things; {right}")
        returned = dict(zip(("o", "lse"), returned, strict=False))
    if not isinstance(returned, dict):
        return {}, Trouble("error", f"it returned {kind(returned)}; {right}")
    results = {name: x for name, x in returned.items() if x is not None}
    for name, x in results.items():
        if not isinstance(x, (np.ndarray, np.generic)):
            return {}, Trouble("error", f"its result {name} is {kind(x)}, not a NumPy array")
    if role == "backward" and results and {"dq", "dk", "dv"} >= set(results):
        return {}, Trouble("error", f"it returned gradients under the names {', '.join(results)}; {right}")
    if role == "forward" and "o" not in results:
        return {}, Trouble("error", f"it returned a dict without 'o'; {right}")
    return results, None


def kind(x):
    if x is None:
        return "None"
    module = type(x).__module__.partition(".")[0]
    return f"a {type(x).__name__}" if module == "builtins" else f"a {module}.{type(x).__name__}"
