"""A block of queries against the keys: the pipeline's own stages on a part of every argument, tile by tile."""

from importlib import import_module
from math import prod
from types import ModuleType

import numpy as np

from attention_ref.adjust import scale
from attention_ref.arrays import reduce_to
from attention_ref.layer import dropout
from attention_ref.pipeline import finite
from attention_ref.tiled.plan import key_tiles


class Sendable:
    """Goes to other processes with its normalizer, a module, by name."""

    normalizer: ModuleType

    def __getstate__(self):
        return self.__dict__ | {"normalizer": self.normalizer.__name__}

    def __setstate__(self, state):
        self.__dict__ |= state | {"normalizer": import_module(state["normalizer"])}


class Cell(Sendable):
    """A problem at a part of its leading axes: the arguments, the place and what forward saved for backward."""

    def __init__(self, problem, task):
        lead, self.keeps, self.kept = task.lead, task.keeps, problem.kept.get(task.number)
        self.store, self.stored = problem.store.get(task.number), 0
        self.pipeline, self.cutter, self.tile = problem.pipeline, problem.cutter, problem.tile
        self.options, self.dtype, self.normalizer = problem.options, problem.dtype, problem.normalizer
        self.bounded = problem.exponential and problem.dtype.kind == "f" and hasattr(problem.pipeline.score, "reach")
        self.leading = tuple(s.stop - s.start for s in lead)
        self.place = problem.place.at(lead)
        self.given = problem.cutter.lead(problem.given, lead)
        self.own = problem.cutter.at(problem.own, task)
        self.saved = {name: x[lead] for name, x in problem.saved.items()}
        self.keys = problem.place.keys
        alike = np.ndim(self.place.offset) == 0 and (self.place.mask is None or not self.place.mask.leading)
        self.known_tiles = problem.key_tiles if alike else {}

    def kept_array(self, shape):
        """An array of this shape in the store, behind the last one; None where nothing is kept."""
        if not self.keeps:
            return None
        start, self.stored = self.stored, self.stored + prod(shape)
        return self.store[start : self.stored].reshape(shape)

    def key_tiles(self, rows):
        """The tiles of keys for a block of queries; found once where all leading axes are alike."""
        if rows.start not in self.known_tiles:
            self.known_tiles[rows.start] = key_tiles(self.place, rows, self.tile)
        return self.known_tiles[rows.start]

    def blocks(self, rows):
        for start in range(rows.start, rows.stop, self.tile.rows):
            yield Block(self, slice(start, min(start + self.tile.rows, rows.stop)))


class Block:
    """Some queries of a cell; where the score is linear in q the scale is taken there, once for all keys."""

    def __init__(self, cell, rows):
        self.cell, self.rows = cell, rows
        self.shape = (*cell.leading, rows.stop - rows.start)
        self.given = cell.cutter.along("i", cell.given, rows)
        self.factor = cell.pipeline.factor(self.given["q"], self.given)
        self.q, self.early = self.given["q"], False
        if self.factor is not None and hasattr(cell.pipeline.score, "LINEAR_IN_Q"):
            self.early = np.ndim(self.factor) == 0 or self.factor.shape[-1] == 1
        if self.early:
            self.q, _ = scale.forward(self.q, self.factor)

    def tiles(self, stop):
        """(the keys, the arguments and the place) of every tile that the masks leave."""
        cell = self.cell
        for keys, everything in cell.key_tiles(self.rows):
            if stop.is_set():
                raise InterruptedError("attention was interrupted")
            given = cell.cutter.along("j", self.given, keys)
            place = cell.place.tile(self.rows, keys, given | cell.options, everything)
            if place.allowed is None or place.allowed.any():
                yield keys, given, place

    def scores(self, given, place):
        """(the scores of a tile as they go into the normalizer, free to be written over; the steps)"""
        pipeline = self.cell.pipeline
        s, _, steps = pipeline.scored(self.q, given["k"], place.allowed, given)
        if self.factor is not None and not self.early:
            s, taped = scale.forward(s, pipeline.factor(given["q"], given))
            steps["scaled"] = scale, taped
        for name, op, arguments in pipeline.adjustments(self.q, place, given):
            s, taped = op.forward(s, **arguments)
            steps[name] = op, taped
        return s, steps

    def reach(self, given, place):
        """What no score of a row exceeds, up or down; inf where that is not known without the scores.

        Not asked behind a mask: a key that a query does not see is not to change a bit of its result.
        """
        known = self.cell.bounded and place.allowed is None and (self.early or self.factor is None)
        return self.cell.pipeline.score.reach(self.q, given["k"]) if known else np.inf

    def free(self, s, steps):
        """The scores at all the leading axes, in an array that nobody else holds."""
        shape = (*self.shape, s.shape[-1])
        held = not s.flags.owndata or any(x is s for _, taped in steps.values() for x in taped.values())
        return np.array(np.broadcast_to(s, shape), self.cell.dtype) if held or s.shape != shape else s

    def dropped(self, alpha, given):
        """(the weights after dropout, its tape)"""
        if "dropout" not in given:
            return alpha, None
        return dropout.forward(alpha, given["dropout"], self.cell.options["dropout_p"])

    def unscaled(self, dq):
        """The gradients of q and of a scale that was taken there."""
        if not self.early:
            return {"q": dq}
        if "scale" not in self.given:
            return {"q": dq * self.factor}
        back = scale.backward(dq, s=finite(self.given["q"]), scale=self.factor)
        return {"q": back["s"], "scale": back["scale"]}


def through(steps, ds, shape):
    """The gradients of a tile's arguments, from that of its scores: the steps in reverse."""
    grads, ds = {}, reduce_to(ds, shape)
    for name, (op, taped) in reversed(steps.items()):
        here = op.backward(ds, **taped)
        if name != "score":
            ds = here.pop(next(iter(here)))
        grads |= here
    return grads
