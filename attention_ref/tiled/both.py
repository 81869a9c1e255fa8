"""A whole problem forward and backward, by an executor."""

import numpy as np

from attention_ref.errors import OptionError
from attention_ref.tiled import memory, passes


def run(*call):
    """`run.run`, imported when the first tiles are asked for: executors take long to import."""
    from attention_ref.tiled.run import run

    run(*call)


def forward(problem, executor, out=None):
    """{o, lse, empty}; o is written into `out` where that fits."""
    outputs = {name: memory.empty(shape, problem.dtype) for name, shape in problem.outputs.items()}
    if usable(out, outputs["o"].shape, problem.dtype):
        outputs["o"] = out

    def take(task, part):
        problem.kept[task.number] = part.pop("kept", None)
        for name, x in part.items():
            outputs[name][(*task.lead, task.rows)] = x

    problem.make_store()
    run(passes.forward, problem, executor, take)
    if problem.options.get("empty_row") == "raise":
        refuse(outputs["empty"])
    return outputs


def backward(problem, executor, out=None):
    """The gradients by name, of a problem with what forward saved; written into `out` where that fits."""
    grads = {name: memory.zeros(x.shape, problem.dtype) for name, x in problem.given.items() if x.dtype.kind in "fc"}
    for name, array in (out or {}).items():
        if name in grads and usable(array, grads[name].shape, problem.dtype):
            grads[name] = array
            array[...] = 0

    def take(task, part):
        here = problem.cutter.along("i", problem.cutter.lead(grads, task.lead), task.rows)
        here = problem.cutter.along("j", here, part.pop("keys"))
        for name, x in part.items():
            here[name] += x

    run(passes.backward, problem, executor, take)
    return grads


def usable(out, shape, dtype):
    """Can results be written straight into this array?"""
    return isinstance(out, np.ndarray) and out.shape == shape and out.dtype == dtype


def refuse(empty):
    if empty.any():
        *leading, row = (int(n) for n in np.argwhere(empty)[0])
        raise OptionError(f"query {row}{f' of {tuple(leading)}' * bool(leading)} may attend to no key")
