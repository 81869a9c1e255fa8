"""The pipeline that runs in tiles where it is asked to."""

from functools import cached_property
from math import prod

import numpy as np

from attention_ref.errors import OptionError
from attention_ref.options import check_options
from attention_ref.pipeline import Pipeline, unrounded
from attention_ref.signature import Signature
from attention_ref.tiled import passes
from attention_ref.tiled.plan import wants_tiles
from attention_ref.tiled.problem import Problem, hidden, leading_axes, refusal
from attention_ref.tiled.run import run


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
        outputs = {name: np.zeros(shape, problem.dtype) for name, shape in problem.outputs.items()}
        if usable(out, outputs["o"]):
            outputs["o"] = out
            out[...] = 0

        def take(task, part):
            problem.kept[task.number] = part.pop("kept", None)
            for name, x in part.items():
                outputs[name][(*task.lead, task.rows)] = x

        problem.make_store()
        run(passes.forward, problem, executor, take)
        refuse_empty_rows(whole, outputs)
        value = outputs["o"], None, outputs.get("lse")
        return value, {"problem": problem, "executor": executor, "saved": outputs}

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
        return self.backward_in_tiles(cotangents, out or {}, **tape)

    def backward_in_tiles(self, cotangents, out, problem, executor, saved):
        do, dalpha, dlse = cotangents
        if dalpha is not None:
            raise OptionError("dalpha was given, and tiles do not keep alpha; leave tile= out")
        if dlse is not None and "lse" not in saved:
            raise OptionError("dlse was given, and this normalizer has no lse")
        problem = problem.with_saved(saved, do, dlse)
        grads = {}
        for name, x in problem.given.items():
            if x.dtype.kind in "fc":
                fits = name in out and usable(out[name], np.empty(x.shape, problem.dtype))
                grads[name] = out[name] if fits else np.zeros(x.shape, problem.dtype)
                if fits:
                    out[name][...] = 0

        def take(task, part):
            here = problem.cutter.along("i", problem.cutter.lead(grads, task.lead), task.rows)
            here = problem.cutter.along("j", here, part.pop("keys"))
            for name, x in part.items():
                here[name] += x

        run(passes.backward, problem, executor, take)
        return grads


def usable(out, like):
    """Can results be written straight into this array?"""
    return isinstance(out, np.ndarray) and out.shape == like.shape and out.dtype == like.dtype


def refuse_empty_rows(given, outputs):
    if given.get("empty_row") == "raise" and outputs["empty"].any():
        *leading, row = (int(n) for n in np.argwhere(outputs["empty"])[0])
        raise OptionError(f"query {row}{f' of {tuple(leading)}' * bool(leading)} may attend to no key")
