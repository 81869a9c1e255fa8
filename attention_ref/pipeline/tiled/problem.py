"""One call as a problem that can be cut into tasks."""

from copy import copy
from dataclasses import replace
from math import prod

import numpy as np

from attention_ref.errors import OptionError
from attention_ref.op.protocol import optional
from attention_ref.pipeline.heads import groups
from attention_ref.pipeline.place import Place
from attention_ref.pipeline.recorder import has_lse
from attention_ref.pipeline.tiled import memory
from attention_ref.pipeline.tiled.block import PLACED, Cell, Sendable
from attention_ref.pipeline.tiled.cut import Cutter
from attention_ref.pipeline.tiled.plan import choose, sizes, tasks

AUTO_BYTES = 2**22
EMULATED = "an emulated precision rounds whole stages, not tiles"
ADJUSTED = PLACED | {"softcap"}
PLACE = ("allowed", "q_lengths", "k_lengths", "q_segments", "k_segments", "mask", "causal", "window", "align")


class Problem(Sendable):
    """The arguments by name with all their axes, where queries and keys stand, the tile and the tasks.

    What forward gave and the cotangents are in `saved`, all of them as [... i something]; in `own` the gradients that
    are apart(), to which a task adds where they belong if it is the first there. `keeps` says whether exponentials may
    wait for backward; what is found of tiles once for all tasks is in `key_tiles`, `places` and `key_norms`.
    """

    def __init__(self, pipeline, given, tile, keeps=True):
        self.pipeline, self.normalizer, self.keeps = pipeline, pipeline.normalizer(given), keeps
        self.saved, self.own = {}, {}
        self.place = Place(given["q"].shape[-2], given["v"].shape[-2], given)
        free = {name: x for name, x in given.items() if name not in PLACE}
        self.given = {name: x for name, x in free.items() if isinstance(x, np.ndarray)}
        self.options = {name: x for name, x in free.items() if name not in self.given}
        self.dtype = np.result_type(*[x.dtype for x in self.given.values() if x.dtype.kind in "fc"])
        arguments = pipeline.arguments
        self.leading = leading_axes(arguments, given)
        self.cutter = Cutter(arguments, {name: x.shape for name, x in self.given.items()}, self.leading[-1:])
        self.taped_a_pair = taped_a_pair(pipeline, self.given)
        self.tile = choose(tile, self.place, max(self.taped_a_pair, 1), self.leading, self.cutter.shared.values())
        self.arrange()

    def arrange(self):
        self.kept, self.store, self.key_tiles, self.places, self.key_norms = {}, {}, {}, {}, {}
        self.tasks = tasks(self.leading, self.place.queries, self.place.keys, self.tile, self.bytes_kept())

    def chosen(self, rows=None, keys=None):
        """The same problem with only these queries, or only these keys."""
        other = copy(self)
        for letter, index in (("i", rows), ("j", keys)):
            if index is not None:
                other.given = self.cutter.along(letter, other.given, index)
        other.place = self.place.chosen(rows, keys)
        other.arrange()
        return other

    def bytes_kept(self):
        """How many bytes a row of scores takes if its exponentials wait for backward; 0 where they cannot."""
        simple = self.keeps and self.exponential and self.taped_a_pair == 0
        return self.dtype.itemsize * self.place.keys if simple else 0

    @property
    def exponential(self):
        """Whether the weights are exponentials of the score itself, but for its scale."""
        return has_lse(self.normalizer) and not ADJUSTED & self.given.keys()

    @property
    def outputs(self):
        """{name: shape} of what forward gives."""
        rows = (*self.leading, self.place.queries)
        out = {"o": (*rows, self.given["v"].shape[-1])}
        if has_lse(self.normalizer):
            out["lse"] = rows
        if self.options.get("empty_row", "zero") != "zero":
            out["empty"] = rows
        return out

    def room(self, task):
        """At most how many bytes a task gives back."""
        cell = self.cell(task)
        forward = sum(prod(shape) for shape in self.outputs.values())
        backward = sum(x.size for x in cell.cutter.along("i", cell.given, task.rows).values())
        return (forward + backward) * self.dtype.itemsize + 2**14

    def apart(self, name):
        """Have tasks at different leading axes different parts of this argument, which they clear before they add?"""
        x = self.given[name]
        own = name not in self.cutter.shared and x.shape[: x.ndim - self.cutter.trailing[name]] == self.leading
        return own and bool(self.tasks)

    def begins(self, name, task):
        """Is this task the first, or the only one, that adds to its part of an argument that is apart()?"""
        return name in self.cutter.where["i"] or task.rows.stop == self.place.queries

    def with_saved(self, saved, do, dlse):
        """The problem of backward: with what forward gave and the cotangents."""
        rows = {
            name: x if name == "o" else x[..., None] for name, x in (saved | {"dlse": dlse}).items() if x is not None
        }
        other = copy(self)
        other.dtype = np.result_type(self.dtype, do, *([] if dlse is None else [dlse]))
        other.saved = {name: x.astype(other.dtype, copy=False) for name, x in (rows | {"do": do}).items()}
        if "empty" in rows:
            other.saved["empty"] = rows["empty"].astype(bool)
        return other

    def contiguous(self):
        """The same, every array in one piece."""
        other = copy(self)
        other.given, other.saved = (
            {name: np.ascontiguousarray(x) for name, x in arrays.items()} for arrays in (self.given, self.saved)
        )
        other.tasks, other.kept, other.store = [replace(task, keeps=False) for task in self.tasks], {}, {}
        other.own = {}
        return other

    def make_store(self):
        """One array for everything that is kept, a row of it for each task: large pages come cheaper than many."""
        keeping = [task for task in self.tasks if task.keeps]
        if keeping:
            room = max(
                prod(s.stop - s.start for s in task.lead) * (task.rows.stop - task.rows.start) for task in keeping
            )
            rows = memory.empty((len(keeping), room * self.place.keys), self.dtype)
            self.store = {task.number: row for task, row in zip(keeping, rows, strict=True)}

    def cell(self, task):
        return Cell(self, task)


def wants_tiles(pipeline, given, tile, emulated):
    """Is a call to run in tiles? "auto" takes them for large scores, and only where they are possible."""
    reason = EMULATED if emulated else refusal(pipeline, given)
    if isinstance(tile, str) and tile == "auto":
        pairs = prod(leading_axes(pipeline.arguments, given)) * given["q"].shape[-2] * given["v"].shape[-2]
        width = given["q"].itemsize * max(taped_a_pair(pipeline, given), 1)
        return pairs * width > AUTO_BYTES and not reason
    sizes(tile)
    if reason:
        raise OptionError(f"{reason}; leave tile= out")
    return True


def refusal(pipeline, given):
    """Why a call cannot run in tiles, in a sentence, or None."""
    if not pipeline.pairwise:
        return "this rule's keys stand beside its queries, so that there are no tiles of pairs"
    op = pipeline.normalizer(given)
    if not (has_lse(op) or optional(op, "ELEMENTWISE")):
        name = given.get("normalize", pipeline.own_normalize)
        return f"{name} needs every score of a row at once and cannot be tiled"
    return None


def leading_axes(arguments, given):
    """The leading axes of all arguments together; keys may have fewer heads, in groups."""
    shapes = []
    for argument in arguments:
        if argument.name in given and argument.leading:
            shape = argument.lead(given[argument.name].shape)
            if argument.name in ("k", "v") and groups(given["q"].shape, given[argument.name].shape):
                shape = (*shape[:-1], 1)
            shapes.append(shape)
    return np.broadcast_shapes(*shapes)


def taped_a_pair(pipeline, arrays):
    """How many numbers the score's tape holds for each pair of query and key; 0 for a product, x for a hidden layer.

    Found by running the score on two queries and two keys at most: of the numbers on its tape, those that grow with
    the queries and with the keys together are the mixed difference of the counts.
    """
    if min(arrays["q"].shape[-2], arrays["k"].shape[-2]) < 2 or not (arrays["q"].size and arrays["k"].size):
        return 0
    parameters = {
        name: first_of_leading(pipeline, name, arrays[name]) for name in pipeline.parameters if name in arrays
    }
    q, k = (first_of_leading(pipeline, name, arrays[name]) for name in ("q", "k"))

    def taped(queries, keys):
        _, tape = pipeline.score.forward(q[:queries], k=k[:keys], **parameters)
        return sum(x.size for x in tape.values() if isinstance(x, np.ndarray))

    return taped(2, 2) - taped(2, 1) - taped(1, 2) + taped(1, 1)


def first_of_leading(pipeline, name, x):
    """An argument at the first place of its leading axes."""
    argument = next(argument for argument in pipeline.arguments if argument.name == name)
    return x[(0,) * len(argument.lead(x.shape))]
