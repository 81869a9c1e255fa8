"""What a module must have to be an op, and what it may say beyond that.

Four names are enough:

    SIGNATURE = "s[... i j] -> alpha[... i j]"
    def definition(xp, s): ...          # the textbook's formula, in the arithmetic of the namespace xp
    def forward(s): ...                 # (value, tape)
    def backward(dalpha, *, ...): ...   # {"s": gradient}, from the tape by name

Everything else in the classes below has a default, and nothing of it is needed for correctness. Any object with these
names will do: a module, a class, an instance. `optional(module, name)` is the one place where they are read.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

REQUIRED = ("SIGNATURE", "definition", "forward", "backward")


class OpModule(Protocol):
    """An op: a score, a normalizer, an adjustment, a layer or a mechanism."""

    SIGNATURE: ClassVar[str]
    FORMULA: ClassVar[str] = ""  # one line of LaTeX, for the catalog
    SOURCE: ClassVar[str] = ""  # where the formula is written
    ERRATUM: ClassVar[str] = ""  # for a text's mistake that is kept as printed: what it is, in one clause
    VARIANTS: ClassVar[Sequence[Mapping[str, Any]]] = ({},)  # the optional arguments and options that tests try

    def definition(self, xp: Any, /, *args: Any, **inputs: Any) -> Any: ...

    def forward(self, /, *args: Any, **inputs: Any) -> tuple[Any, dict[str, Any]]: ...

    def backward(self, dvalue: Any, /, **tape: Any) -> dict[str, Any]: ...


class ScoreModule(OpModule, Protocol):
    """A rule's score of every query and key: `q[... i d] k[... j c] … -> s[... i j]`."""

    SCORE: ClassVar[str] = ""  # the score of another rule's file, for a rule that has none of its own
    NORMALIZE: ClassVar[str] = "softmax"  # the normalizer that belongs to the rule
    scale: ClassVar[Callable[[Any], Any] | None] = None  # scale(q): the factor that belongs to the rule


class NormalizerModule(OpModule, Protocol):
    """Weights from scores: `s[... i j] -> alpha[... i j] lse[... i]`, or alpha alone where there is no lse.

    backward takes a cotangent for each result, (dalpha, dlse); dlse may be None.
    """

    SINK: ClassVar[float | None] = None  # a score that every row has besides its keys, whose weight goes to no value
    ELEMENTWISE: ClassVar[bool] = False  # each weight depends on its own score alone, so that it needs no whole row


DEFAULTS = {
    name: getattr(protocol, name)
    for protocol in (OpModule, ScoreModule, NormalizerModule)
    for name in protocol.__annotations__
    if hasattr(protocol, name)
}


def optional(module: Any, name: str) -> Any:
    """What the module says under a name that it may leave out, or the default."""
    return getattr(module, name, DEFAULTS[name])


def is_op(module: Any) -> bool:
    return all(hasattr(module, name) for name in REQUIRED)
