"""How the weights changed during training: an animation, written as a GIF."""

from os import PathLike
from pathlib import Path

from matplotlib.animation import PillowWriter

from attention_ref.errors import OptionError
from attention_ref.plot.drawing import checks
from attention_ref.plot.grids import stacked
from attention_ref.plot.heatmap import heatmap


def training(alphas_by_step, path, *, steps=None, frames_per_second=4, dpi=80, **options):
    """Write a GIF with one frame for each step's weights, (step, query, key), all on one scale; returns the path.

    `steps` are the numbers or names in the titles; further options are `heatmap`'s.
    """
    values = stacked("training", alphas_by_step, ("query", "key"), "step")
    if not isinstance(path, (str, PathLike)) or Path(path).suffix.lower() != ".gif":
        raise OptionError(f"training: path must end in .gif; got {str(path)!r}")
    if "ax" in options or "title" in options:
        raise OptionError("training: it draws on a figure of its own, with the step as title; leave ax and title out")
    names = checks.labels("training", "steps", steps, len(values), "steps") or [str(at) for at in range(len(values))]
    options = {"vmin": 0, "vmax": 1} | options
    ax = heatmap(values[0], **options)
    figure = ax.figure
    writer = PillowWriter(fps=frames_per_second)
    with writer.saving(figure, str(path), dpi):
        for name, frame in zip(names, values, strict=True):
            for other in list(ax.child_axes):
                other.remove()
            ax.clear()
            heatmap(frame, ax=ax, **options, title=f"step {name}")
            writer.grab_frame()
    return path
