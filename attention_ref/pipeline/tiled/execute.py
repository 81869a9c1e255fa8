"""A whole problem forward and backward, by an executor."""

import numpy as np

from attention_ref.pipeline.place import refuse_empty
from attention_ref.pipeline.tiled import memory, passes


def run(*call):
    """`run.run`, imported when the first tiles are asked for: executors take long to import."""
    from attention_ref.pipeline.tiled.workers import run

    run(*call)


def forward(problem, executor, out=None):
    """{o, lse, empty}; o is written into `out` where that fits."""
    outputs = {name: target(problem, out if name == "o" else None, shape) for name, shape in problem.outputs.items()}

    def take(task, part):
        problem.kept[task.number] = part.pop("kept", None)
        for name, x in part.items():
            outputs[name][(*task.lead, task.rows)] = x

    problem.make_store()
    run(passes.forward, problem, executor, take)
    if problem.options.get("empty_row") == "raise":
        refuse_empty(outputs["empty"])
    return outputs


def backward(problem, executor, out=None):
    """The gradients by name, of a problem with what forward saved; written into `out` where that fits."""
    floating = {name: x.shape for name, x in problem.given.items() if x.dtype.kind in "fc"}
    apart = {name for name in floating if problem.apart(name)}
    grads = {
        name: target(problem, (out or {}).get(name), shape, blank=name not in apart) for name, shape in floating.items()
    }
    problem.own = {name: grads[name] for name in apart}

    def take(task, part):
        here = problem.cutter.at(grads, task)
        for name in part.keys() & apart:
            if problem.begins(name, task):
                here[name][...] = 0
        here = problem.cutter.along("j", here, part.pop("keys"))
        for name, x in part.items():
            here[name] += x

    run(passes.backward, problem, executor, take)
    return grads


def target(problem, out, shape, blank=False):
    """The array given for a result, where it fits and no task reads from it, or one of ours; zeros if `blank`."""
    read = [*problem.given.values(), *problem.saved.values()]
    fits = isinstance(out, np.ndarray) and out.shape == shape and out.dtype == problem.dtype
    if not fits or any(np.may_share_memory(out, x) for x in read):
        return (memory.zeros if blank else memory.empty)(shape, problem.dtype)
    if blank:
        out[...] = 0
    return out
