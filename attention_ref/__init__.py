"""attention_ref: the numerical oracle for attention."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from attention_ref import adjust, layer, masks, mechanism, normalize, score
from attention_ref.errors import OptionError, ShapeError
from attention_ref.mechanism import mechanisms
from attention_ref.op.op import Op
from attention_ref.op.registry import Lazy
from attention_ref.pipeline import cache
from attention_ref.pipeline.attention import Attended, attention
from attention_ref.pipeline.derivatives import hvp, jvp
from attention_ref.pipeline.emulate import emulate
from attention_ref.pipeline.rule import Rule, rules

if TYPE_CHECKING:  # what an editor and mypy see of the names that are imported later
    from attention_ref import plot
    from attention_ref.oracle.check import check
    from attention_ref.oracle.power import power
    from attention_ref.oracle.report.report import CheckFailed, Report
    from attention_ref.pipeline.sample import sample

# Imported when first asked for, so that `import attention_ref` costs little more than NumPy: name -> module.
LATER = {
    "CheckFailed": "attention_ref.oracle.report.report",
    "Report": "attention_ref.oracle.report.report",
    "check": "attention_ref.oracle.check",
    "plot": "attention_ref",
    "power": "attention_ref.oracle.power",
    "sample": "attention_ref.pipeline.sample",
}
__version__ = "0.1.0"

ops = Lazy(lambda: {name: op for room in (score, adjust, normalize, layer, mechanism) for name, op in room.ops.items()})

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
    "plot",
    "power",
    "rules",
    "sample",
]


def __dir__() -> list[str]:
    """Every public name, also those whose modules are not imported yet, so that completion finds them."""
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """The public names whose modules are imported when they are first asked for."""
    if name not in LATER:
        raise AttributeError(f"module 'attention_ref' has no attribute {name!r}")
    if name == "plot":
        return import_module("attention_ref.plot")
    globals()[name] = getattr(import_module(LATER[name]), name)
    return globals()[name]
