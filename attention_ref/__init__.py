"""attention_ref: the numerical oracle for attention."""

from attention_ref import adjust, cache, layer, mask, mechanism, normalize, score
from attention_ref import mask as masks
from attention_ref.attention import Attended, Rule, attention, rules
from attention_ref.differentiable import hvp, jvp
from attention_ref.emulate import emulate
from attention_ref.errors import OptionError, ShapeError
from attention_ref.mechanism import mechanisms
from attention_ref.op import Op
from attention_ref.sample import sample

__version__ = "0.1.0"

ops = {name: op for room in (score, adjust, mask, normalize, layer, mechanism) for name, op in room.ops.items()}

__all__ = [
    "Attended",
    "Op",
    "OptionError",
    "Rule",
    "ShapeError",
    "attention",
    "cache",
    "emulate",
    "hvp",
    "jvp",
    "masks",
    "mechanisms",
    "ops",
    "rules",
    "sample",
]
