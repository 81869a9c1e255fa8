"""The heatmaps of every candidate's alpha and of its error; matplotlib is imported when called."""

import numpy as np


def draw(path, candidates, oracle, lead):
    """Write a row of two heatmaps a candidate, alpha and alpha minus the oracle's, at the leading index `lead`."""
    from attention_ref import plot
    from attention_ref.plot.drawing.figures import Picture

    alphas = {name: alpha[lead] for name, alpha in candidates.items()}
    top = max(alpha.max() for alpha in alphas.values())
    off = max(np.abs(alpha - oracle[lead]).max() for alpha in alphas.values())

    figure = Picture(figsize=(10.5, 4.1 * len(alphas)), layout="constrained")
    figure.suptitle(f"leading index {', '.join(map(str, lead))}: where the worst α is")
    for (left, right), (name, alpha) in zip(
        figure.subplots(len(alphas), 2, squeeze=False), alphas.items(), strict=True
    ):
        largest = np.abs(alpha - oracle[lead]).max()
        plot.heatmap(alpha, ax=left, title=f"{name}: α", vmax=top, annot=False)
        title = f"{name}: α − oracle's α, at most {largest:.2g}"
        plot.difference(alpha, oracle[lead], ax=right, title=title, vmax=off)
    plot.save(figure, path, dpi=120)
