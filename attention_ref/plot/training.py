"""How the weights changed during training: an animation, written as a GIF."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
from matplotlib.animation import PillowWriter

from attention_ref.errors import OptionError
from attention_ref.plot.drawing import checks
from attention_ref.plot.drawing.figures import root_figure
from attention_ref.plot.grids import stacked
from attention_ref.plot.heatmap import heatmap

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from attention_ref.plot.drawing.look import LabeledOptions


def training(
    alphas_by_step: npt.ArrayLike | Sequence[npt.ArrayLike],
    path: str | PathLike,
    *,
    steps: Sequence[Any] | None = None,
    frames_per_second: int = 4,
    dpi: int = 80,
    **options: "Unpack[LabeledOptions]",
) -> str | PathLike:
    """Write a GIF with one frame for each step's weights, (step, query, key), all on one scale; returns the path.

    `steps` are the numbers or names in the titles; further options are `heatmap`'s.
    """
    values = stacked("training", alphas_by_step, ("query", "key"), "step")
    if not isinstance(path, (str, PathLike)) or Path(path).suffix.lower() != ".gif":
        raise OptionError(f"training: path must end in .gif; got {str(path)!r}")
    if "ax" in options or "title" in options:
        raise OptionError("training: it draws on a figure of its own, with the step as title; leave ax and title out")
    names = checks.labels("training", "steps", steps, len(values), "steps") or [str(at) for at in range(len(values))]
    ax = heatmap(values[0], **options)
    writer = PillowWriter(fps=frames_per_second)
    with writer.saving(root_figure(ax), str(path), dpi):
        for name, frame in zip(names, values, strict=True):
            for colorbar in list(ax.child_axes):
                colorbar.remove()
            ax.clear()
            heatmap(frame, ax=ax, **options, title=f"step {name}")
            writer.grab_frame()
    return path
