"""Attention in tiles: one loop for every pairwise rule, in memory that grows with the length, not with its square."""

from attention_ref.errors import OptionError
from attention_ref.pipeline.tiled import execute
from attention_ref.pipeline.tiled.problem import Problem
from attention_ref.pipeline.tiled.problem import wants_tiles as is_wanted

__all__ = ["backward", "forward", "is_wanted"]


def forward(pipeline, given, tile, executor, out):
    """((o, None, lse), tape): tiles keep no alpha."""
    problem = Problem(pipeline, given, tile)
    results = execute.forward(problem, executor, out)
    # Backward needs o and lse: copies, for the caller may write into what was returned (o += q), or hand the same
    # out= to the next call. At 8 heads of 2,048 x 64 that is 1 ms of 100.
    saved = {name: x.copy() for name, x in results.items()}
    return (results["o"], None, results.get("lse")), {"problem": problem, "executor": executor, "saved": saved}


def backward(cotangents, out, problem, executor, saved):
    """The gradients by name, from what forward() saved."""
    do, dalpha, dlse = cotangents
    if dalpha is not None:
        raise OptionError("dalpha was given, and tiles do not keep alpha; leave tile= out")
    if dlse is not None and "lse" not in saved:
        raise OptionError("dlse was given, and this normalizer has no lse")
    return execute.backward(problem.with_saved(saved, do, dlse), executor, out)
