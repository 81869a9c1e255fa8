"""Every op as an autograd primitive, to second order, with the hand-written backward as its VJP.

Nothing here is reached, and autograd is not imported, unless an argument is being traced by autograd.
"""

import sys

import numpy as np

from attention_ref.errors import OptionError, ShapeError
from attention_ref.op.arrays import floats

STEP = 1e-200


def traced(values):
    """Is any of these an autograd box?"""
    tracer = sys.modules.get("autograd.tracer")
    return tracer is not None and any(tracer.isbox(value) for value in values)


def plain(value):
    """The array inside any number of autograd boxes."""
    while traced([value]):
        value = value._value
    return value


def forward(op, inputs):
    """(boxed value, plain tape): the call recorded on autograd's tape."""
    from autograd.extend import defvjp_argnums, primitive

    tracer = sys.modules["autograd.tracer"]
    names = [name for name in inputs if tracer.isbox(inputs[name])]
    for name in names:
        if name not in op.arguments or op.arguments[name].kind != "float":
            raise OptionError(f"{op.name}: {name} has no gradient; pass its plain value")
    fixed = {name: value for name, value in inputs.items() if name not in names}
    held = {}

    @primitive
    def run(*values):
        held["value"], held["tape"] = op.forward(**fixed, **dict(zip(names, values, strict=True)))
        return present(held["value"])

    @primitive
    def pull(cotangent, *values):
        grads = op.backward(restore(cotangent, held["value"]), **held["tape"])
        return tuple(grads[name] for name in names)

    def pull_vjp(argnums, answer, args, kwargs):
        cotangent, *values = (plain(a) for a in args)
        at = fixed | dict(zip(names, values, strict=True))

        def pullback(g):
            if traced([g]) or traced(g if isinstance(g, tuple) else ()):
                raise NotImplementedError(f"{op.name}: autograd reaches two derivatives through this op, not three")
            direction = dict(zip(names, g, strict=True))
            along = present(jvp(op, at, direction))
            bent = hvp(op, at, restore(cotangent, held["value"]), direction)
            return tuple(along if n == 0 else bent[names[n - 1]] for n in argnums)

        return pullback

    def run_vjp(argnums, answer, args, kwargs):
        def pullback(g):
            grads = pull(g, *args)
            return tuple(grads[n] for n in argnums)

        return pullback

    defvjp_argnums(run, run_vjp)
    defvjp_argnums(pull, pull_vjp)
    value = run(*(inputs[name] for name in names))
    return restore(value, held["value"]), held["tape"]


def present(value):
    """Several results without the missing ones, which autograd has no vector space for."""
    return tuple(v for v in value if v is not None) if isinstance(value, tuple) else value


def restore(present, value):
    """One entry a result again, None where the value has none."""
    if not isinstance(value, tuple):
        return present
    entries = iter(present)
    return tuple(None if v is None else next(entries) for v in value)


def step(op, inputs, tangents):
    """The inputs, those with a tangent moved by a tiny imaginary step along it."""
    known = [name for name, argument in op.arguments.items() if argument.kind == "float" and name in inputs]
    moved = {}
    for name, tangent in tangents.items():
        if name not in known:
            raise OptionError(
                f"{op.name}: no tangent can be had of {name!r}; the inputs that have one: {', '.join(known)}"
            )
        x = floats(op.name, op.arguments[name], inputs[name])
        along = floats(op.name, op.arguments[name], tangent, prefix="the tangent of ")
        if along.shape != x.shape or along.dtype.kind != "f":
            raise ShapeError(
                f"{op.name}: the tangent of {name} must be real and of its shape {x.shape}; "
                f"got {along.dtype} of shape {along.shape}"
            )
        moved[name] = x + 1j * STEP * along.astype(np.float64)
    return inputs | moved


def imaginary(value):
    if isinstance(value, tuple):
        return tuple(imaginary(v) for v in value)
    if value is None:
        return None
    return np.imag(value) / STEP


def jvp(op, inputs, tangents):
    """The derivative of the value along `tangents`, a dict by argument, by complex step."""
    return imaginary(op.forward(**step(op, inputs, tangents))[0])


def hvp(op, inputs, cotangent, tangents):
    """The derivative of every gradient along `tangents`: complex step through the hand-written backward.

    The cotangent is what `op.backward` takes, for a rule (do, dalpha, dlse).
    """
    _, tape = op.forward(**step(op, inputs, tangents))
    return {name: imaginary(g) for name, g in op.backward(cotangent, **tape).items()}
