"""The figure of a report: the error over its bound, the worst cell circled, the tiles drawn."""

import numpy as np
import pytest

import attention_ref as ar
from attention_ref import plot


def wrong(q, k, v, causal=False):
    a = ar.attention(q, k, v, causal=causal)
    o = a.o.astype(q.dtype)
    o[..., 4:8, 2] *= 1 + 1e-3
    return o, a.lse.astype(np.float32)


@pytest.fixture(scope="module")
def report():
    return ar.check(wrong, cases="causal,shape-15x15")


def test_it_shows_the_error_over_its_bound(report):
    figure, axes = report.figure("causal", tile=(4, 8))
    (ax,) = axes.flat
    run = next(run for run in report.failures() if run.case == "causal")
    worst = next(c.worst for c in run.results if c.result == "o")
    drawn = ax.images[0].get_array()
    assert np.abs(drawn).max() == pytest.approx(worst.score, rel=1e-6)
    assert np.unravel_index(np.abs(drawn).argmax(), drawn.shape) == worst.index[-2:]
    (circle,) = ax.lines
    assert (*circle.get_ydata(), *circle.get_xdata()) == worst.index[-2:]
    assert "tiles of 4 × 8" in ax.get_xlabel()
    assert ax.get_title() == f"o[{worst.index[0]}, {worst.index[1]}]: worst {worst.score:.3g} × bound"
    plot.save(figure, "/dev/null", "png")


def test_what_cannot_be_drawn_is_said(report):
    with pytest.raises(ar.errors.OptionError, match="'scale' is no failing case; there are"):
        report.figure("scale")
    with pytest.raises(ar.errors.OptionError, match="lse has no wrong elements to draw; there are o"):
        report.figure(results="lse")
    right = ar.check(lambda q, k, v: ar.attention(q, k, v).o.astype(q.dtype), cases="shape-15x15")
    with pytest.raises(ar.errors.OptionError, match="no run failed"):
        right.figure()
