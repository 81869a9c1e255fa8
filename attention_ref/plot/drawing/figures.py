"""Figures without pyplot: made, described in words, and saved so that the same array gives the same bytes."""

import io
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import IO, Any, Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import TightLayoutEngine

from attention_ref.errors import OptionError

SALT = "attention_ref"  # of the identifiers in an SVG, which are random without it
THINNEST = 24  # times as long as wide: at 6.5 inches the shorter side has a quarter of an inch, a line of text
FORMATS = ("png", "svg", "pdf")


class Picture(Figure):
    """A figure that a notebook shows by itself."""

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        save(self, out, "png")
        return out.getvalue()


def own_axes(owner: str, ax: Any, shape: Sequence[int], square: bool = True) -> Axes:
    """The axes of the caller's, or new ones on a figure whose size suits the matrix."""
    if ax is None:
        return Picture(figsize=size_in_inches(shape, square), layout="constrained").subplots()
    if not isinstance(ax, Axes):
        raise OptionError(f"{owner}: ax must be a matplotlib Axes; got {type(ax).__name__}")
    set_layout(ax, instead_of=(type(None),))
    return ax


def has_square_cells(square: bool, shape: Sequence[int]) -> bool:
    """Whether cells are drawn as squares: not where the matrix would be a mere line."""
    return bool(square) and max(shape) <= THINNEST * min(shape)


def size_in_inches(shape: Sequence[int], square: bool = True) -> tuple[float, float]:
    """Width and height of a figure for one matrix.

    A cell takes 0.45 inches, in which "0.25" can be read, until the longer side has 6.5, the text width of a letter
    page. Labels, title, legend and colorbar take 1.9 beside and 1.3 above and below.
    """
    rows, columns = shape
    if square and not has_square_cells(square, shape):
        return (8.4, 2.9) if columns > rows else (4.9, 7.8)
    cell = min(0.45, 6.5 / max(rows, columns))
    return max(3.0, columns * cell) + 1.9, max(1.6, rows * cell) + 1.3


def own_figure(owner: str, figure: Any, width: float, height: float) -> Figure | SubFigure:
    """The figure or subfigure of the caller's, or a new one."""
    if figure is None:
        return Picture(figsize=(width, height), layout="constrained")
    if not isinstance(figure, (Figure, SubFigure)):
        raise OptionError(f"{owner}: figure must be a Figure or a SubFigure; got {type(figure).__name__}")
    set_layout(figure, instead_of=(type(None), TightLayoutEngine))  # a tight layout overlaps a shared colorbar
    return figure


def set_layout(artist: Axes | Figure | SubFigure, instead_of: tuple[type, ...]) -> None:
    """Give a figure without a layout, or with an unfit one, one that leaves space for colorbars."""
    figure = root_figure(artist)
    if isinstance(figure.get_layout_engine(), instead_of):
        figure.set_layout_engine("constrained")


def root_figure(artist: Any) -> Figure:
    """The figure that an axes, a subfigure or a figure belongs to in the end."""
    figure = artist if isinstance(artist, (Figure, SubFigure)) else artist.figure
    return figure.canvas.figure


def set_alt_text(ax: Axes, text: str) -> Axes:
    """Keep with an axes what it shows, in words, for readers who cannot see it."""
    ax.alt_text = text  # type: ignore[attr-defined]
    return ax


def alt_text(figure: Figure | SubFigure | Axes) -> str:
    """What a figure shows, in words: the descriptions of its axes."""
    return "\n".join(ax.alt_text for ax in root_figure(figure).axes if hasattr(ax, "alt_text"))


def save(
    figure: Figure | SubFigure | Axes,
    path: str | PathLike | IO[bytes],
    format: Literal["png", "svg", "pdf"] | None = None,
    *,
    alt: str | None = None,
    dpi: float | None = None,
) -> None:
    """Write a figure, with its description in the metadata; the same array gives the same bytes.

    `path` may be a file object, then `format` says which of png, svg and pdf.
    """
    figure = root_figure(figure) if isinstance(figure, (Figure, SubFigure, Axes)) else figure
    if not isinstance(figure, Figure):
        raise OptionError(f"save: the first argument must be a figure or an axes; got {type(figure).__name__}")
    if format is None:
        if not isinstance(path, (str, PathLike)):
            raise OptionError(f"save: a file object has no ending; give format=, one of {', '.join(FORMATS)}")
        ending: Any = Path(path).suffix.lstrip(".").lower()
        format = ending
    if format not in FORMATS:
        raise OptionError(f"save: cannot write {format!r}; png, svg and pdf can be written (plot.training writes gif)")
    options: dict[str, Any] = {"format": format, "dpi": dpi or "figure", "bbox_inches": "tight", "pad_inches": 0.08}
    with rc_context({"svg.hashsalt": SALT, "pdf.compression": 6}):
        figure.savefig(path, **options, metadata=metadata(format, alt_text(figure) if alt is None else alt))


def metadata(format: str, text: str) -> dict[str, str | None]:
    """The description, and no dates, which would make the bytes differ from one second to the next."""
    title = text.partition("\n")[0]
    if format == "png":
        return {"Software": SALT, "Description": text}
    if format == "svg":
        return {"Date": None, "Creator": SALT, "Title": title, "Description": text}
    return {"CreationDate": None, "ModDate": None, "Creator": SALT, "Producer": SALT, "Title": title, "Subject": text}
