"""A block of queries against the keys: the pipeline's own stages on a part of every argument, tile by tile."""

from functools import cached_property
from importlib import import_module
from math import prod
from types import ModuleType

import numpy as np

from attention_ref.adjust import scale
from attention_ref.layer import dropout
from attention_ref.op.arrays import finite, reduce_to
from attention_ref.pipeline.recorder import Recorder, Reverse
from attention_ref.pipeline.tiled.plan import key_tiles
from attention_ref.score import dot, general, key_norm

# Scores in which the scale may be taken into q, once for all keys; any other score is scaled as it comes.
LINEAR_IN_Q = (dot, general, key_norm)
PLACED, PLACES_BYTES = {"bias", "alibi_slopes", "relative_table"}, 2**23


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
        self.lead, self.keeps, self.kept = task.lead, task.keeps, problem.kept.get(task.number)
        self.store, self.stored = problem.store.get(task.number), 0
        self.pipeline, self.cutter, self.tile = problem.pipeline, problem.cutter, problem.tile
        self.options, self.dtype, self.normalizer = problem.options, problem.dtype, problem.normalizer
        self.bounded = problem.exponential and problem.dtype.kind == "f" and problem.pipeline.score is dot
        self.leading = tuple(s.stop - s.start for s in self.lead)
        self.place = problem.place.at(self.lead)
        self.given = problem.cutter.lead(problem.given, self.lead)
        own = {name: x for name, x in problem.own.items() if problem.begins(name, task)}
        self.own = problem.cutter.at(own, task)
        self.saved = {name: x[self.lead] for name, x in problem.saved.items()}
        self.keys = problem.place.keys
        alike = np.ndim(self.place.offset) == 0 and (self.place.mask is None or not self.place.mask.leading)
        self.placed = not alike or bool(PLACED & self.given.keys())
        self.known_tiles = problem.key_tiles if alike else {}
        self.places, self.key_norms = problem.places, problem.key_norms

    def kept_array(self, shape):
        """An array of this shape in the store, after the last one; None where nothing is kept."""
        if not self.keeps:
            return None
        start, self.stored = self.stored, self.stored + prod(shape)
        return self.store[start : self.stored].reshape(shape)

    def key_tiles(self, rows):
        """The tiles of keys for a block of queries; found once where all leading axes are alike."""
        if rows.start not in self.known_tiles:
            self.known_tiles[rows.start] = key_tiles(self.place, rows, self.tile)
        return self.known_tiles[rows.start]

    def tile_place(self, rows, keys, given, everything):
        """The place of a tile; the first ones are used again, where nothing depends on it but masks that are alike."""
        if self.placed:
            return self.place.tile(rows, keys, given | self.options, everything)
        where = None if everything else (rows.start, keys.start)
        if where in self.places:
            return self.places[where]
        place = self.place.tile(rows, keys, self.options, everything)
        if (1 + len(self.places)) * self.tile.rows * self.tile.keys <= PLACES_BYTES:
            place.allowed = None if place.allowed is None else place.allowed.copy()
            self.places[where] = place
        return place

    def largest(self, keys, k):
        """(the largest norm of these keys, as [... 1 1], that of all heads); found once for all queries."""
        where = (*(s.start for s in self.lead), keys.start, keys.stop)
        if where not in self.key_norms:
            norms, norm = normed(k)
            self.key_norms[where] = np.max(norms, axis=-2, keepdims=True, initial=0), norm
        return self.key_norms[where]

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
        if self.factor is not None and cell.pipeline.score in LINEAR_IN_Q:
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
            place = cell.tile_place(self.rows, keys, given, everything)
            if place.allowed is None or place.allowed.any():
                yield keys, given, place

    def scores(self, keys, given, place):
        """(the scores of a tile as they go into the normalizer, free to be written over; the recorder)"""
        pipeline, recorder = self.cell.pipeline, Recorder()
        allowed = None if place.allowed is None or self.surely_finite(keys, given) else place.allowed
        s = pipeline.scored(recorder, self.q, given["k"], allowed, given)
        factor = None if self.early or self.factor is None else pipeline.factor(given["q"], given)
        s = pipeline.adjusted(recorder, s, factor, place, given)
        recorder.shown.clear()  # nobody looks at a tile's stages, and backward keeps what it needs
        return s, recorder

    def seeing(self, stop):
        """Which queries may attend to any key, as [... i 1]."""
        sees = np.zeros((*self.shape, 1), bool)
        for _, _, place in self.tiles(stop):
            sees |= True if place.allowed is None else place.allowed.any(axis=-1, keepdims=True)
        return sees

    def reach(self, keys, given, place, room):
        """What no score of a row exceeds, up or down: one number, if that is within `room`, or each row's own.

        inf where it is not known without the scores. Not asked behind a mask: a key that a query does not see is not
        to change a bit of its result.
        """
        if not self.cell.bounded or place.allowed is not None or not (self.early or self.factor is None):
            return np.inf
        bound = self.bound(keys, given)
        return bound if bound <= room else self.norms[0] * self.cell.largest(keys, given["k"])[0]

    def surely_finite(self, keys, given):
        """Is it known, without a look at them, that all scores of a tile are finite?"""
        return self.cell.bounded and 2 * self.bound(keys, given) < np.finfo(self.cell.dtype).max

    def bound(self, keys, given):
        """What no score of a tile exceeds, up or down, before all adjustments."""
        return self.norms[1] * self.cell.largest(keys, given["k"])[1]

    @cached_property
    def norms(self):
        return normed(self.q)

    def free(self, s, recorder):
        """The scores at all the leading axes, in an array that nobody else holds."""
        shape = (*self.shape, s.shape[-1])
        if s.shape == shape and s.flags.owndata and not held(s, recorder):
            return s
        return np.array(np.broadcast_to(s, shape), self.cell.dtype)

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


def normed(x):
    """(the norm of every query or key as [... i 1], the largest norm): no dot product exceeds the product of two."""
    norms = np.sqrt(np.einsum("...d,...d->...", x, x))[..., None]
    return norms, float(np.max(norms, initial=0))


def held(s, recorder):
    """Does one of the steps hold this array in its tape?"""
    for _, taped in recorder.steps.values():
        for x in taped.values():
            if x is s:
                return True
    return False


def through(recorder, ds, shape):
    """The gradients of a tile's arguments, from that of its scores: the steps in reverse."""
    back, ds = Reverse(recorder), reduce_to(ds, shape)
    for name in reversed(recorder.steps):
        ds = back.undo(name, ds)
    return back.grads | {"q": ds}
