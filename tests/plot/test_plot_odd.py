"""Odd input: refused in a sentence, or drawn so that nothing is hidden."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from plot_help import overlaps, pixels, weights

import attention_ref as ar
from attention_ref import plot

ALPHA = weights(4, 4)
ATTENDED = ar.attention(*np.random.default_rng(0).standard_normal((3, 5, 4)))


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [
        (lambda: plot.heatmap(np.ma.masked_array(ALPHA, ALPHA < 0.1)), "masked array; give alpha.data, and allowed=~"),
        (lambda: plot.heatmap(ALPHA, key_labels=4), "key_labels must be a list of 4 texts; got int"),
        (lambda: plot.heatmap(ALPHA, vmax="1"), "vmax='1' must be a finite number"),
        (lambda: plot.heatmap(ALPHA, fmt="d"), "fmt='d' cannot format a number"),
        (lambda: plot.heads(ALPHA[None], heads=[True]), "heads=True must be an integer"),
        (lambda: plot.gradient(ALPHA, vmax=-1), "vmax=-1 must be above 0"),
        (lambda: plot.difference(ALPHA, ALPHA, tile=2.5), "tile=2.5 must be a whole number"),
        (lambda: plot.difference(ALPHA, ALPHA, "score", bound=np.ones((3, 4))), "bound of shape .3, 4. does not"),
        (lambda: plot.mask(ar.masks.causal()), "a mask without sizes; give allowed.dense"),
        (lambda: plot.backward(ATTENDED, np.ones((3, 3))), "do has shape .3, 3.; it must be .5, 4."),
        (lambda: plot.rollout(ALPHA[None, None], residual=None), "residual=None must lie between"),
        (lambda: plot.overlay(ALPHA, ALPHA.ravel(), grid=3), "16 weights do not fill a grid of 3 × 3"),
        (lambda: plot.training(ALPHA[None], io.BytesIO()), "path must end in .gif"),
        (lambda: plot.training(ALPHA[None], "a.gif", ax=None), "leave ax and title out"),
        (lambda: plot.training(ALPHA[None, None], "a.gif"), r"must be .step, query, key."),
        (lambda: plot.save(plot.heatmap(ALPHA), io.BytesIO()), "a file object has no ending; give format="),
    ],
)
def test_it_is_refused_in_a_sentence(draw, sentence):
    with pytest.raises((ar.errors.OptionError, ar.errors.ShapeError), match=sentence):
        draw()


def test_heads_may_be_a_slice():
    assert [ax.get_title() for ax in plot.heads(weights(3, 4, 4), heads=slice(1, 3))[1].flat] == ["head 1", "head 2"]


def test_tokens_may_be_bytes():
    ax = plot.heatmap(weights(1, 2), key_labels=[b"the", b"\xff"])
    pixels(ax.figure)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["the", "\\xff"]


@pytest.mark.parametrize("shape", [(1, 500), (3000, 5), (5, 3000)])
def test_a_long_matrix_is_not_drawn_as_a_line(shape):
    ax = plot.heatmap(weights(*shape))
    pixels(ax.figure)
    box = ax.get_window_extent()
    assert min(box.width, box.height) > 60
    assert min(ax.images[0].get_array().shape) == min(shape)


@pytest.mark.parametrize("layout", [None, "tight"])
def test_colorbars_keep_off_the_next_panel(layout):
    figure = Figure(figsize=(8, 4), layout=layout)
    left, right = figure.subplots(1, 2)
    plot.heatmap(ALPHA, ax=left)
    plot.heatmap(ALPHA, ax=right)
    pixels(figure)
    bar = left.child_axes[0].get_tightbbox()
    assert bar.x1 < right.yaxis.get_tightbbox().x0


def test_heads_do_not_use_a_tight_layout():
    figure = Figure(figsize=(8, 4), layout="tight")
    plot.heads(weights(2, 4, 4), figure=figure)
    pixels(figure)
    *panels, bar = figure.axes
    assert max(ax.get_tightbbox().x1 for ax in panels) < bar.get_tightbbox().x0


def test_one_peak_in_3000_bars_is_seen():
    alpha = np.zeros((1, 3000))
    alpha[0, 1234] = 1
    ax = plot.rows(alpha, 0)
    pixels(ax.figure)
    tallest = max(ax.patches, key=lambda bar: bar.get_height())
    assert tallest.get_height() == 1
    assert tallest.get_x() <= 1234 <= tallest.get_x() + tallest.get_width()
    assert tallest.get_window_extent().width > 0.9
    assert "each bar: the largest of" in ax.get_xlabel()


def test_tiles_too_small_for_lines_are_only_named():
    ax = plot.difference(weights(300, 300), weights(300, 300, seed=1), tile=1)
    assert not ax.collections
    assert "tiles of 1 × 1: too small" in ax.get_xlabel()


def test_three_hundred_arcs_have_labels_that_can_be_read():
    ax = plot.arcs([f"token {i}" for i in range(300)], np.eye(300))
    pixels(ax.figure)
    assert overlaps(ax.texts) == []
    assert len(ax.texts) > 60


def test_arcs_tell_what_has_no_lines():
    alpha = np.array([[np.nan, 1, 0], [0, 0, 0], [0.5, 0, 0]])
    with pytest.warns(UserWarning, match="row 2 sums to 0.5, not 1"):
        ax = plot.arcs(list("abc"), alpha)
    assert "no lines for 3 weights: empty row (attends to nothing), 1 weights: NaN or ∞" in ax.get_xlabel()


def test_patches_with_nan_have_a_sum():
    ax = plot.overlay(np.ones((4, 4)), [np.nan, 0.5, 0.25, 0.25])
    assert "hold 100%" in ax.get_xlabel()
