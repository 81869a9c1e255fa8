"""How a matrix is drawn: the options that the public functions share, and the words that options take."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt
from matplotlib.colors import Colormap, Normalize

from attention_ref.errors import OptionError
from attention_ref.op.suggest import did_you_mean
from attention_ref.plot.drawing import colors

Reduction = Literal["max", "min", "mean", "extreme"]
Combination = Literal["mean", "max", "min"]
RowCheck = Literal["warn", "raise", "ignore"]
Annotation = bool | Literal["auto"] | npt.NDArray[np.bool_] | npt.NDArray[np.str_] | Sequence[Sequence[str]]
LabelPair = tuple[list[str] | None, list[str] | None]  # of the queries and of the keys; None: their numbers
TickLabels = bool | int | Literal["auto"] | Sequence[str]


class LookOptions(TypedDict, total=False):
    """What `heads` and `layers` hand on to every panel, and `heatmap` takes too."""

    cmap: str | Colormap
    norm: Normalize | None
    vmin: float | None
    vmax: float | None
    annot: Annotation
    fmt: str
    square: bool
    max_cells: int
    reduce: Reduction
    check_rows: RowCheck
    cbar_label: str


class PanelOptions(LookOptions, total=False):
    """The further options of `heads` and `layers`."""

    shared: bool


class MatrixOptions(LookOptions, total=False):
    """The options of `heatmap` but labels, title and axes."""

    allowed: npt.ArrayLike | None
    cbar: bool
    legend: bool
    xticklabels: TickLabels
    yticklabels: TickLabels


class TitledOptions(MatrixOptions, total=False):
    """The further options of `alignment`, which has the labels as arguments."""

    title: str | None


class LabeledOptions(MatrixOptions, total=False):
    """The further options of `rollout`, `flow` and `training`, which have the title as an argument or make it."""

    query_labels: Sequence[str] | None
    key_labels: Sequence[str] | None


@dataclass
class Look:
    """The options of `heatmap` and `heads`, and what the axes are called."""

    cmap: str | Colormap = colors.SEQUENTIAL
    norm: Normalize | None = None
    vmin: float | None = 0  # weights lie between 0 and 1: on the whole scale, heads and models can be compared
    vmax: float | None = 1
    shared: bool = True
    annot: Annotation = "auto"
    fmt: str = ".2f"
    cbar: bool = True
    cbar_label: str = "weight α"
    legend: bool = True
    square: bool = True
    xticklabels: TickLabels = "auto"
    yticklabels: TickLabels = "auto"
    max_cells: int = 512  # about as many pixels as the axes of a new figure have: 6.5 inches at 100 dpi, less margins
    reduce: Reduction = "max"
    check_rows: RowCheck = "warn"
    title: str | None = None
    query_axis: str = "query (i)"
    key_axis: str = "key (j)"
    keys_on_top: bool = False


def make_look(owner: str, options: Any, known: Any, **presets: Any) -> Look:
    """The look that a function's presets and its user's options ask for; `known` is the TypedDict of the options."""
    for name in sorted(options):
        if name not in known.__optional_keys__:
            raise OptionError(f"{owner}: there is no option {name!r}{did_you_mean(name, known.__optional_keys__)}")
    return Look(**{**presets, **options})
