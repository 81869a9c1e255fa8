"""The picture of a failed check: where each wrong result is off, against its bound. Matplotlib comes when called."""

import numpy as np

from attention_ref.errors import OptionError


def draw(report, case=None, results=None, tile=None, figure=None):
    """(figure, axes): a heatmap of (got − want) / bound for every wrong result of one failing run.

    Each panel is the (row, column) matrix that holds the result's worst element, which is circled.
    """
    from attention_ref.plot.difference import draw_difference
    from attention_ref.plot.drawing.figures import own_figure
    from attention_ref.plot.drawing.look import Look

    run = chosen(report, case)
    worst = {c.result: c.worst for c in run.results if c.verdict == "fail" and c.worst is not None}
    names = list(worst) if results is None else [results] if isinstance(results, str) else list(results)
    missing = [name for name in names if name not in worst]
    if missing or not names:
        known = ", ".join(worst) or "none: what came has the wrong shape or dtype"
        raise OptionError(f"figure: {', '.join(missing) or run.case} has no wrong elements to draw; there are {known}")
    figure = own_figure("figure", figure, 5.2 * min(len(names), 3), 4.6 * -(-len(names) // 3) + 0.4)
    axes = figure.subplots(-(-len(names) // 3), min(len(names), 3), squeeze=False)
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    for ax, name in zip(axes.flat, names, strict=False):
        got, want, bound = (matrix(run.evidence[kind][name], worst[name].index) for kind in ("got", "want", "bounds"))
        look = Look(title=headline(name, worst[name]), vmax=None, reduce="extreme", query_axis="row", key_axis="column")
        draw_difference(got, want, "score", bound, tile, look, ax)
        row, column = (0, 0, *worst[name].index)[-2:]
        ax.plot(column, row, "o", markersize=11, markerfacecolor="none", markeredgecolor="#ff3b30", markeredgewidth=1.8)
    figure.suptitle(f"{run.case}, {run.dtype}: beyond ±1 the error is larger than its bound")
    return figure, axes


def chosen(report, case):
    """The failing run of a case, the worst of all unless one is named."""
    runs = [run for run in report.failures() if run.verdict == "fail" and run.evidence and not run.sample]
    if not runs:
        sampled = any(run.sample for run in report.failures())
        why = "a sample is not drawn; run the case whole" if sampled else "no run failed with values to draw"
        raise OptionError(f"figure: {why}")
    if case is None:
        return runs[0]
    for run in runs:
        if run.case == case:
            return run
    raise OptionError(
        f"figure: {case!r} is no failing case; there are {', '.join(dict.fromkeys(r.case for r in runs))}"
    )


def matrix(array, index):
    """The last two axes of an array, as float64, at the leading index of an element."""
    array = np.asarray(array, np.float64)[index[:-2]]
    return np.atleast_2d(array)


def headline(name, worst):
    lead = ", ".join(map(str, worst.index[:-2]))
    return f"{name}[{lead}]: worst {worst.score:.3g} × bound"
