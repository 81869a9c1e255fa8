"""The heatmaps of every candidate's alpha and of its error, on common scales; matplotlib is imported when called."""

import numpy as np


def draw(path, candidates, oracle, lead):
    """Write a row of two heatmaps a candidate, alpha and alpha minus the oracle's, at the leading index `lead`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    alphas = {name: alpha[lead] for name, alpha in candidates.items()}
    errors = {name: alpha - oracle[lead] for name, alpha in alphas.items()}
    top = max(alpha.max() for alpha in alphas.values())
    off = max(np.abs(error).max() for error in errors.values())

    figure = Figure(figsize=(9.5, 3.9 * len(alphas)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"leading index {', '.join(map(str, lead))}: where the worst α is")
    axes = figure.subplots(len(alphas), 2, squeeze=False)
    for (left, right), name in zip(axes, alphas, strict=True):
        largest = np.abs(errors[name]).max()
        heatmap(left, alphas[name], f"{name}: α", "viridis", (0, top))
        heatmap(right, errors[name], f"{name}: α − oracle's α, at most {largest:.2g}", "RdBu_r", (-off, off))
    figure.savefig(path, dpi=120)


def heatmap(ax, values, title, cmap, limits):
    image = ax.imshow(values, cmap=cmap, vmin=limits[0], vmax=limits[1], interpolation="nearest")
    ax.set(title=title, xlabel="key (j)", ylabel="query (i)")
    ax.set(xticks=range(0, values.shape[1], 2), yticks=range(0, values.shape[0], 2))
    ax.figure.colorbar(image, ax=ax, shrink=0.9)
