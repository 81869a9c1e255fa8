"""The pipeline that runs in tiles where it is asked to."""

from functools import cached_property
from math import prod

from attention_ref.errors import OptionError
from attention_ref.options import check_options
from attention_ref.pipeline import Pipeline, unrounded
from attention_ref.signature import Signature
from attention_ref.tiled import both
from attention_ref.tiled.plan import wants_tiles
from attention_ref.tiled.problem import Problem, hidden, leading_axes, refusal


class Tiled(Pipeline):
    """A rule's pipeline, on whole matrices or in tiles."""

    @cached_property
    def arguments(self):
        return Signature(self.SIGNATURE).arguments

    def forward(self, q, k, v, rounding=unrounded, tile=None, executor=None, out=None, **given):
        check_options(given | {"rounding": rounding})
        whole = {"q": q, "k": k, "v": v} | given
        if not self.wants_tiles(tile, whole, rounding):
            return super().forward(q, k, v, rounding, **given)
        problem = Problem(self, whole, tile)
        saved = both.forward(problem, executor, out)
        tape = {"problem": problem, "executor": executor, "saved": saved}
        return (saved["o"], None, saved.get("lse")), tape

    def wants_tiles(self, tile, whole, rounding):
        if tile is None:
            return False
        pairs = prod(leading_axes(self.arguments, whole)) * whole["q"].shape[-2] * whole["v"].shape[-2]
        width = whole["q"].itemsize * hidden(self.score, self.arguments, whole)
        emulated = {} if rounding is unrounded else {"rounding": rounding}
        return wants_tiles(tile, pairs * width, refusal(self, whole | emulated))

    def backward(self, cotangents, out=None, **tape):
        if "problem" not in tape:
            return super().backward(cotangents, **tape)
        return self.backward_in_tiles(cotangents, out, **tape)

    def backward_in_tiles(self, cotangents, out, problem, executor, saved):
        do, dalpha, dlse = cotangents
        if dalpha is not None:
            raise OptionError("dalpha was given, and tiles do not keep alpha; leave tile= out")
        if dlse is not None and "lse" not in saved:
            raise OptionError("dlse was given, and this normalizer has no lse")
        return both.backward(problem.with_saved(saved, do, dlse), executor, out)
