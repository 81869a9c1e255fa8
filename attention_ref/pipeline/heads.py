"""Grouped heads: q has g·r heads, k and v have g; query head h reads key head h // r, by broadcasting."""

from attention_ref.op.op import reference, referred
from attention_ref.pipeline.recorder import first_argument


def groups(many, few):
    """How many key heads serve the query heads, from the two shapes; None where plain broadcasting does it."""
    if len(many) < 3 or len(few) < 3:
        return None
    heads, g = many[-3], few[-3]
    return g if 1 < g < heads and heads % g == 0 else None


def split(x, g):
    """[... g·r i d] -> [... g r i d]"""
    return x.reshape(*x.shape[:-3], g, x.shape[-3] // g, *x.shape[-2:])


def join(x):
    """[... g r i d] -> [... g·r i d]"""
    return x.reshape(*x.shape[:-4], x.shape[-4] * x.shape[-3], *x.shape[-2:])


class Grouped:
    """An op whose first argument has the query heads and whose argument `few` has the key heads."""

    def __init__(self, op, g, few):
        self.op, self.g, self.few = op, g, few
        self.SIGNATURE = op.SIGNATURE

    def __reduce__(self):
        return loaded_grouped, (reference(self.op), self.g, self.few)

    def forward(self, many, **arguments):
        arguments[self.few] = arguments[self.few][..., None, :, :]
        if arguments.get("allowed") is not None:
            arguments["allowed"] = self.split_mask(arguments["allowed"], many.shape[-3])
        value, tape = self.op.forward(split(many, self.g), **arguments)
        return join(value), tape

    def backward(self, dvalue, **tape):
        grads = self.op.backward(split(dvalue, self.g), **tape)
        many = first_argument(self.SIGNATURE)
        return grads | {many: join(grads[many]), self.few: grads[self.few].sum(axis=-3)}

    def split_mask(self, allowed, heads):
        if allowed.ndim < 3:
            return allowed
        return split(allowed, self.g) if allowed.shape[-3] == heads else allowed[..., None, :, :]


def loaded_grouped(op, g, few):
    return Grouped(referred(op), g, few)


def grouped(op, many, few, name):
    """The op itself, or the op over groups where `few`, its argument of that name, has fewer heads than `many`."""
    g = groups(many.shape, few.shape)
    return op if g is None else Grouped(op, g, name)
