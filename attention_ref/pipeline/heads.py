"""Grouped heads: q has g·r heads, k and v have g; query head h reads key head h // r, by broadcasting."""


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

    def __init__(self, module, g, few):
        self.module, self.g, self.few = module, g, few
        self.SIGNATURE = module.SIGNATURE

    def forward(self, many, **arguments):
        arguments[self.few] = arguments[self.few][..., None, :, :]
        if arguments.get("allowed") is not None:
            arguments["allowed"] = self.split_mask(arguments["allowed"], many.shape[-3])
        value, tape = self.module.forward(split(many, self.g), **arguments)
        return join(value), tape

    def backward(self, dvalue, **tape):
        grads = self.module.backward(split(dvalue, self.g), **tape)
        first = next(iter(grads))
        return grads | {first: join(grads[first]), self.few: grads[self.few].sum(axis=-3)}

    def split_mask(self, allowed, heads):
        if allowed.ndim < 3:
            return allowed
        return split(allowed, self.g) if allowed.shape[-3] == heads else allowed[..., None, :, :]


def grouped(module, many, few, name):
    """The op itself, or the op over groups where `few`, its argument of that name, has fewer heads than `many`."""
    g = groups(many.shape, few.shape)
    return module if g is None else Grouped(module, g, name)
