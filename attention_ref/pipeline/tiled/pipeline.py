"""The pipeline that runs in tiles where it is asked to."""

from functools import cached_property

from attention_ref.errors import OptionError
from attention_ref.op.signature import Signature
from attention_ref.pipeline.options import check_options
from attention_ref.pipeline.pipeline import Pipeline, unrounded


class Tiled(Pipeline):
    """A rule's pipeline, on whole matrices or in tiles; what only tiles need is imported for the first of them."""

    @cached_property
    def arguments(self):
        return Signature(self.SIGNATURE).arguments

    def forward(self, q, k, v, rounding=unrounded, tile=None, executor=None, out=None, **given):
        asked = {"executor": executor, "out": out}
        check_options(given | {"rounding": rounding} | {name: x for name, x in asked.items() if x is not None})
        if tile is None:
            return super().forward(q, k, v, rounding, **given)
        from attention_ref.pipeline.tiled import execute, problem

        whole = {"q": q, "k": k, "v": v} | given
        if not problem.wants_tiles(self, whole, tile, emulated=rounding is not unrounded):
            return super().forward(q, k, v, rounding, **given)
        cut = problem.Problem(self, whole, tile)
        saved = execute.forward(cut, executor, out)
        tape = {"problem": cut, "executor": executor, "saved": saved}
        return (saved["o"], None, saved.get("lse")), tape

    def backward(self, cotangents, out=None, **tape):
        if "problem" not in tape:
            return super().backward(cotangents, **tape)
        return self.backward_in_tiles(cotangents, out, **tape)

    def backward_in_tiles(self, cotangents, out, problem, executor, saved):
        from attention_ref.pipeline.tiled import execute

        do, dalpha, dlse = cotangents
        if dalpha is not None:
            raise OptionError("dalpha was given, and tiles do not keep alpha; leave tile= out")
        if dlse is not None and "lse" not in saved:
            raise OptionError("dlse was given, and this normalizer has no lse")
        return execute.backward(problem.with_saved(saved, do, dlse), executor, out)
