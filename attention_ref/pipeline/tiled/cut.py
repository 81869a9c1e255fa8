"""Cut arguments to a part of the problem, by the axes that the signature gives them."""

from attention_ref.op.arrays import at_lead, reduce_to
from attention_ref.pipeline.heads import groups

WHOLE = slice(None)


class Cutter:
    """Knows along which axes the arguments of one call can be cut: leading axes, queries, keys.

    `heads` is how many query heads there are, as a tuple, empty where there are no leading axes.
    """

    def __init__(self, arguments, shapes, heads):
        self.trailing, self.where, self.shared = {}, {"i": {}, "j": {}}, {}
        for argument in arguments:
            if argument.name in shapes:
                self.learn(argument, shapes[argument.name])
        for few in ("k", "v"):
            g = groups(shapes["q"], shapes[few])
            if g:
                self.shared[few] = heads[0] // g

    def learn(self, argument, shape):
        letters = [axis.text for axis in argument.axes]
        self.trailing[argument.name] = min(len(letters), len(shape)) if argument.leading else len(shape)
        for letter, where in self.where.items():
            if letter in letters:
                axis = letters.index(letter) - len(letters)
                if -axis <= len(shape) and shape[axis] != 1:
                    where[argument.name] = (WHOLE,) * (-axis - 1)

    def lead(self, arrays, lead):
        """Every array at these slices of the leading axes; a key head at the slices of the query heads it serves."""
        out = {}
        for name, x in arrays.items():
            own = lead
            if name in self.shared:
                r, last = self.shared[name], lead[-1]
                own = (*lead[:-1], slice(last.start // r, (last.stop - 1) // r + 1))
            out[name] = at_lead(x, own, self.trailing[name])
        return out

    def at(self, arrays, task):
        """Every array at the leading axes and the queries of a task."""
        return self.along("i", self.lead(arrays, task.lead), task.rows)

    def along(self, letter, arrays, span):
        """Every array at a slice of the queries ("i") or of the keys ("j")."""
        out = dict(arrays)
        for name, rest in self.where[letter].items():
            if name in out:
                out[name] = out[name][(..., span, *rest)]
        return out


def add(totals, grads):
    """Add gradients to the arrays that sum them up, over whatever was broadcast."""
    for name, gradient in grads.items():
        if name in totals:
            totals[name] += reduce_to(gradient, totals[name].shape)
