"""seaborn's heatmap beside ours, in the same run."""

import io
import time

import pytest
import seaborn
from matplotlib.figure import Figure
from plot_help import weights, written

from attention_ref import plot


@pytest.mark.slow
@pytest.mark.pictures
def test_seaborn_takes_twenty_times_as_long_for_the_same_pdf():
    alpha = weights(512, 512)

    def seconds(draw):
        start = time.perf_counter()
        draw()
        return time.perf_counter() - start

    def theirs():
        figure = Figure()
        seaborn.heatmap(alpha, ax=figure.subplots())
        figure.savefig(io.BytesIO(), format="pdf")

    ours = min(seconds(lambda: written(plot.heatmap(alpha), "pdf")) for _ in range(3))
    assert seconds(theirs) > 20 * ours
