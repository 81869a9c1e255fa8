"""Forward mode and second order of any op, or of any rule by its name, by complex step."""

from attention_ref import differentiable
from attention_ref.attention import find


def jvp(op, inputs, tangents):
    """The derivative of the value along `tangents`, a dict by argument; what is not named there stands still."""
    return differentiable.jvp(named(op), inputs, tangents)


def hvp(op, inputs, cotangent, tangents):
    """The derivative along `tangents` of every gradient that `backward(cotangent)` gives."""
    return differentiable.hvp(named(op), inputs, cotangent, tangents)


def named(op):
    return find(op) if isinstance(op, str) else op
