"""attention_ref: the numerical oracle for attention."""

from importlib import import_module

from attention_ref import adjust, cache, layer, mask, mechanism, normalize, score
from attention_ref import mask as masks
from attention_ref.attention import Attended, Rule, attention, rules
from attention_ref.derivatives import hvp, jvp
from attention_ref.emulate import emulate
from attention_ref.errors import OptionError, ShapeError
from attention_ref.mechanism import mechanisms
from attention_ref.op import Op
from attention_ref.oracle.check import check
from attention_ref.oracle.report import CheckFailed, Report

__version__ = "0.1.0"

ops = {name: op for room in (score, adjust, mask, normalize, layer, mechanism) for name, op in room.ops.items()}

__all__ = [
    "Attended",
    "CheckFailed",
    "Op",
    "OptionError",
    "Report",
    "Rule",
    "ShapeError",
    "attention",
    "cache",
    "check",
    "emulate",
    "hvp",
    "jvp",
    "masks",
    "mechanisms",
    "ops",
    "rules",
]


def __getattr__(name):
    """`plot` imports Matplotlib, so it is imported when it is asked for."""
    if name == "plot":
        return import_module("attention_ref.plot")
    raise AttributeError(f"module 'attention_ref' has no attribute {name!r}")
