"""A correct attention kernel with its backward pass; the base of every mistake.

A mistake is a subclass: its docstring is the clause that names it in a diagnosis, its methods are what it does
instead. Two mistakes at once are a class with both as bases, and the same mistake sits in a kernel with one softmax,
an online one or split keys by having that kernel as a further base.
"""

import numpy as np

from attention_ref.op.arrays import reduce_to
from attention_ref.oracle.diagnose.faults.forward import Forward, empty_rows
from attention_ref.pipeline.place import FILL


class Kernel(Forward):
    """One call, forward and backward. The backward pass computes the scores again, from the inputs."""

    def backward(self, do, dlse=None, o=None, lse=None):
        """{"dq": …} with the gradient of every floating-point input, from the kernel's o and lse."""
        if o is None or (lse is None and self.softmax):
            own = self.forward()
            o, lse = own["o"] if o is None else o, own.get("lse") if lse is None else lse
        do, o = self.read(self.number(do)), self.read(self.number(o))
        v = self.clean("v", self.shared(self.arrays["v"]))
        s = self.scores()
        if not self.softmax:
            self.alpha, taped = self.normalizer.forward(s)
            ds = self.normalizer.backward(self.into_weights(do, v), **taped)["s"]
            return self.gradients({"v": self.dv(self.filled(self.alpha, s), do)}, ds)
        lse = self.number(lse)
        self.alpha = p = self.weights(s, lse)
        da = self.into_weights(do, v)
        row = self.less_dlse(self.d(do, o, p, da), dlse)
        grads = {"v": self.dv(self.filled(p, s), do)}
        if "sink" in self.options:
            grads["sink"] = self.dsink(lse, row)
        return self.gradients(grads, self.ds(p, da, row))

    def gradients(self, grads, ds):
        """All gradients, from those there are and the scores'."""
        ds = self.arithmetic.operand(ds)
        for op, taped in reversed(self.steps):
            here = self.through(op, ds, taped)
            ds = here.pop("s")
            grads |= here
        grads |= self.through_score(ds)
        return {
            f"d{name}": self.arithmetic.out(self.reduced(name, grads[name])) for name in grads if name in self.shapes
        }

    def weights(self, s, lse):
        """The weights again, from the scores and lse."""
        return self.exp(s - np.where(np.isneginf(lse), 0, lse)[..., None])

    def filled(self, p, s):
        """The weights with those that `empty_row` asks for."""
        fill = FILL.get(self.options.get("empty_row", "zero"))
        return p if fill is None else np.where(empty_rows(s), p.dtype.type(fill(s.shape[-1])), p)

    def dv(self, p, do):
        return np.swapaxes(self.arithmetic.operand(self.dropped(p, 0)), -1, -2) @ do

    def into_weights(self, do, v):
        """The cotangent of the weights before dropout."""
        return self.dropped(do @ np.swapaxes(v, -1, -2), 0)

    def d(self, do, o, p, da):
        """D, the product of each row of the output with its cotangent."""
        return (do * o).sum(axis=-1)

    def less_dlse(self, row, dlse):
        return row if dlse is None else row - self.number(dlse)

    def ds(self, p, da, row):
        return p * (da - row[..., None])

    def dsink(self, lse, row):
        return -self.exp(self.options["sink"][..., None] - lse) * row

    def through(self, op, ds, taped):
        """The gradients of one stage between score and softmax."""
        return op.backward(ds, **taped)

    def through_score(self, ds):
        return self.pipeline.score.backward(ds, **self.taped)

    def reduced(self, name, dx):
        """A gradient in its argument's shape and memory."""
        shape = self.shapes[name]
        if name == "sink":
            dx = dx.sum(axis=-1)
        if name in ("q", "k", "v"):
            dx = self.written(self.gathered(dx, shape) if name != "q" else dx)
        return self.over_broadcast(name, dx, shape)

    def gathered(self, dx, shape):
        """The gradient of `shared`."""
        if len(shape) < 3:
            return dx
        groups = shape[-3]
        readers = [np.flatnonzero(self.key_heads(groups) == head) for head in range(groups)]
        if all(len(one) == 1 for one in readers):
            return dx[..., np.concatenate(readers), :, :]
        return np.stack([self.over_group(dx[..., one, :, :]) for one in readers], axis=-3)

    def over_group(self, dx):
        """The gradient of one key head, from those of the query heads that read it: [... r j d] -> [... j d]"""
        return dx.sum(axis=-3)

    def over_broadcast(self, name, dx, shape):
        return reduce_to(dx, shape)


class Narrow(Kernel):
    """No mistake, in the arithmetic of the dtype."""

    narrow = True


class Straight(Kernel):
    """All keys at once."""


class Online(Kernel):
    """An online softmax over tiles of 16 keys."""

    tile = 16


class Split(Kernel):
    """Two halves of the keys, merged by their lse."""

    splits = 2


def catalog(namespace):
    """The mistakes that a module defines, in the order in which they are written."""
    kinds = [x for x in namespace.values() if isinstance(x, type) and issubclass(x, Kernel)]
    return [kind for kind in kinds if kind.__module__ == namespace["__name__"]]


def in_tiles(mistake, tiles=(16, 32, 64, 128)):
    """The same mistake in tiles of several sizes, by name."""
    found = {}
    for tile in tiles:
        doc = mistake.__doc__.format(tile=tile)
        body = {"__doc__": doc, "__module__": mistake.__module__, "tile": tile}
        found[f"{mistake.__name__}{tile}"] = type(f"{mistake.__name__}{tile}", (mistake,), body)
    return found
