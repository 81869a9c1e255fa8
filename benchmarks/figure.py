"""Time and memory against the length, on logarithmic axes."""


def figure(result, title):
    """A figure with two panels: seconds and peak bytes of every contender at every length."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(9, 4), layout="constrained")
    panels = fig.subplots(1, 2)
    lengths = [int(length) for length in result["lengths"]]
    for ax, key, label in zip(panels, ("seconds", "peak"), ("seconds", "peak bytes"), strict=True):
        names = dict.fromkeys(name for found in result["lengths"].values() for name in found[key])
        for name in names:
            points = [(n, result["lengths"][str(n)][key].get(name)) for n in lengths]
            points = [(n, y) for n, y in points if y]
            ax.plot(*zip(*points, strict=True), marker="o", label=name) if points else None
        ax.set(xscale="log", yscale="log", xlabel="L", ylabel=label)
        ax.set_xticks(lengths, [str(length) for length in lengths])
        ax.set_xticks([], minor=True)
    fig.suptitle(title)
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper")
    return fig
