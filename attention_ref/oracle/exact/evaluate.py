"""Exact answers: an op's results and gradients, correctly rounded to float64, with a proof.

The definition is evaluated in ball arithmetic at rising precision until both ends of every ball round to the same
float64. Its gradients come from the same evaluation, backward through the numbers it is made of: nothing of the
hand-written forward and backward passes is used. Those run on balls too, and must agree.
"""

import numpy as np
from flint import arb

from attention_ref.op.arrays import reduce_to
from attention_ref.oracle.exact.arrays import balls, exact, rounded, variables
from attention_ref.oracle.exact.ball import Ball, Undecided, precision
from attention_ref.oracle.exact.derivative import gradient, tangent

PRECISIONS = (128, 384, 1536, 6144)


def evaluate(op, inputs, cotangents=None):
    """({result: array}, {input: gradient}) by the definition, correctly rounded; cotangents by the result's name."""
    return risen(lambda: tuple(rounded_all(part) for part in defined(op, inputs, cotangents)))


def evaluate_by_hand(op, inputs, cotangents=None):
    """The same by the hand-written passes in ball arithmetic."""
    return risen(lambda: tuple(rounded_all(part) for part in by_hand(op, inputs, cotangents)))


def risen(run, first=PRECISIONS[0]):
    """What `run` gives at the first precision that decides everything."""
    for bits in [bits for bits in PRECISIONS if bits >= first]:
        with precision(bits), np.errstate(all="ignore"):
            try:
                return run()
            except Undecided as error:
                last = error
    raise last


def rounded_all(several):
    return {name: rounded(x) for name, x in several.items()}


def defined(op, inputs, cotangents=None):
    """({result: balls}, {input: balls}) at the present precision, by the definition alone."""
    given, options = op.check(op.named((), inputs))
    wanted = cotangents is not None
    moving = {name: (variables if wanted else exact)(x) for name, x in floating(op, given).items()}
    results = results_of(op, given, op.definition(np, **given | moving | exact_options(op, given, options)))
    if not wanted:
        return results, {}
    names = [name for name in results if name in cotangents]
    return results, gradient([results[n] for n in names], [cotangents[n] for n in names], moving)


def directional(op, inputs, cotangents, directions):
    """Σ ⟨cotangent, derivative of the result along the directions⟩ by dual numbers through the definition: an arb."""
    given, options = op.check(op.named((), inputs))
    moving = {name: variables(x) for name, x in floating(op, given).items()}
    results = results_of(op, given, op.definition(np, **given | moving | exact_options(op, given, options)))
    names = list(cotangents)
    moved = tangent([results[name] for name in names], directions, moving)
    return sum((product(cotangents[name], x) for name, x in zip(names, moved, strict=True)), arb(0))


def product(x, y):
    """⟨x, y⟩ as an arb, x floats and y balls; what x leaves out may be NaN."""
    pairs = zip(np.asarray(x).ravel().tolist(), y.ravel().tolist(), strict=True)
    return sum((arb(a) * b.value for a, b in pairs if a != 0), arb(0))


def by_hand(op, inputs, cotangents=None):
    """({result: balls}, {input: balls}) at the present precision, by forward and backward."""
    given, options = op.check(op.named((), inputs))
    moving = {name: exact(x) for name, x in floating(op, given).items()}
    scale = own_scale(op, given)
    value, tape = op.module.forward(**given | moving | scale, **options)
    results = results_of(op, given, value)
    if cotangents is None:
        return results, {}
    dvalue = [None if d is None else exact(d) for d in listed(op, op.cotangents(asked_of(op, cotangents), given))]
    grads = op.module.backward(tuple(dvalue) if several(op) else dvalue[0], **tape)
    return results, {name: reduce_to(balls(np.asarray(grads[name], object)), x.shape) for name, x in moving.items()}


def asked_of(op, cotangents):
    asked = [cotangents.get(result.name) for result in op.signature.results]
    return asked if several(op) else asked[0]


def listed(op, dvalue):
    return dvalue if several(op) else (dvalue,)


def several(op):
    return len(op.signature.results) > 1


def floating(op, given):
    return {name: x for name, x in given.items() if op.arguments[name].kind == "float"}


def exact_options(op, given, options):
    """Plain floats among the options as balls, and the rule's own factor as an exact number."""
    return {name: Ball(arb(x)) if type(x) is float else x for name, x in options.items()} | own_scale(op, given)


def own_scale(op, given):
    """A rule's own scale, which its module rounds to a float, as a ball."""
    scale = getattr(op.module, "own_scale", None)
    if scale is None or "scale" in given:
        return {}
    return {"scale": balls(Ball(arb(1)) * scale(given["q"], sqrt=lambda n: Ball(arb(n).sqrt())))}


def results_of(op, given, value):
    value = value if isinstance(value, tuple) else (value,)
    shape = op.bind(given).shape
    pairs = zip(op.signature.results, value, strict=True)
    return {result.name: np.broadcast_to(balls(x), shape(result)) for result, x in pairs if x is not None}
