"""Forward mode and second order of any op, or of any rule by its name, by complex step."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from attention_ref.op import autograd
from attention_ref.op.op import Op
from attention_ref.op.protocol import OpModule
from attention_ref.pipeline.rule import find, is_rule

Inputs: TypeAlias = Mapping[str, Any]


def jvp(op: str | Op | OpModule, inputs: Inputs, tangents: Inputs) -> Any:
    """The derivative of the value along `tangents`, to machine precision; what is not named there stands still.

    >>> import attention_ref as ar
    >>> ar.jvp(ar.ops["layer.sigmoid"], {"x": [0.0, 1.0]}, {"x": [1.0, 1.0]}).round(4)
    array([0.25  , 0.1966])

    Args:
        op: an `Op`, a rule by its name, or a module with a rule's four names
        inputs: what forward takes, by name
        tangents: directions by the inputs' names, each of its input's shape
    """
    return autograd.jvp(named(op), inputs, tangents)


def hvp(op: str | Op | OpModule, inputs: Inputs, cotangent: Any, tangents: Inputs) -> dict[str, np.ndarray]:
    """The derivative along `tangents` of every gradient that `backward(cotangent)` gives: double backward.

    >>> import attention_ref as ar
    >>> sigmoid, one = ar.ops["layer.sigmoid"], [1.0, 1.0]
    >>> ar.hvp(sigmoid, {"x": [0.0, 1.0]}, one, {"x": one})["x"].round(4)  # the second derivative
    array([ 0.    , -0.0909])

    Args:
        op: an `Op`, a rule by its name, or a module with a rule's four names
        inputs: what forward takes, by name
        cotangent: what backward takes
        tangents: directions by the inputs' names, each of its input's shape
    """
    return autograd.hvp(named(op), inputs, cotangent, tangents)


def named(op: Any) -> Op:
    return find(op) if isinstance(op, str) or is_rule(op) else op
