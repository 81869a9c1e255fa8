"""The picture of a report: the result that is furthest off, as errors in units of its bound."""

import numpy as np

from attention_ref.errors import OptionError
from attention_ref.oracle.formats import widened


def figure(report):
    """(figure, axes): the worst case's errors, queries or keys against features; ShapeError if nothing failed."""
    from matplotlib.figure import Figure

    worst = next((run for run in report.failures() if run.evidence and run.evidence["got"]), None)
    if worst is None:
        raise OptionError("there is no figure to draw: nothing failed")
    bad = next(found.result for found in worst.results if found.verdict == "fail" and found.worst is not None)
    ratio = matrix(scores(worst.evidence, bad))
    canvas = Figure(figsize=(6, 4.5), layout="constrained")
    axes = canvas.add_subplot()
    shown = axes.imshow(np.log10(np.maximum(ratio, 1e-3)), aspect="auto", interpolation="nearest", cmap="viridis")
    canvas.colorbar(shown, ax=axes, label="log10 of error / bound")
    axes.set(title=f"{worst.case}, {worst.dtype}: {bad}", xlabel="last axis", ylabel="second to last axis")
    return canvas, axes


def draw(report, path):
    figure(report)[0].savefig(path, dpi=150)


def scores(evidence, result):
    """Error over bound for every element; infinite errors are the largest finite one, or 1e6."""
    got, want = widened(evidence["got"][result]), evidence["want"][result]
    with np.errstate(all="ignore"):
        error = np.where(got == want, 0, np.abs(got - want))
        ratio = error / np.maximum(np.broadcast_to(evidence["bounds"][result], want.shape), np.finfo(float).tiny)
    return np.where(np.isfinite(ratio), ratio, 1e6)


def matrix(x):
    """The leading index with the largest element, as a matrix."""
    x = np.atleast_2d(x)
    place = np.unravel_index(np.argmax(x), x.shape)
    return x[place[:-2]]
