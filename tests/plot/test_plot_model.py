"""Entropy, rollout and flow as numbers, against what they are by definition."""

from itertools import chain, combinations

import numpy as np
import pytest
from plot_help import weights

from attention_ref import plot
from attention_ref.plot.measures import mixed


def test_entropy_is_that_of_a_row():
    assert plot.row_entropy(np.full((3, 8), 1 / 8)) == pytest.approx([3, 3, 3])
    assert plot.row_entropy(np.eye(3)) == pytest.approx([0, 0, 0])
    assert np.isnan(plot.row_entropy(np.zeros((1, 3)))).all()
    assert np.isnan(plot.row_entropy([[np.nan, 1.0]])).all()
    alpha = weights(5, 7)
    assert plot.row_entropy(alpha) == pytest.approx(-(alpha * np.log2(alpha)).sum(axis=1))


def test_the_picture_of_entropy_is_the_mean_over_living_rows():
    alphas = weights(3, 2, 5, 5)
    alphas[1, 0, 2] = 0
    alphas[2, 1] = 0
    image = plot.entropy(alphas).images[0].get_array()
    bits = plot.row_entropy(alphas)
    assert image[1, 0] == pytest.approx(np.nanmean(bits[1, 0]))
    assert image.data[0] == pytest.approx(bits[0].mean(axis=-1))
    assert image.mask[2, 1]
    assert plot.entropy(alphas).images[0].get_clim() == (0, pytest.approx(np.log2(5)))


@pytest.mark.parametrize("residual", [0, 0.3, 0.5, 1])
def test_rollout_is_the_product_and_its_rows_sum_to_one(residual):
    alphas = weights(4, 3, 7, 7, seed=5)
    share = plot.rollout_weights(alphas, residual)
    layers = [residual * np.eye(7) + (1 - residual) * layer.mean(axis=0) for layer in alphas]
    assert share == pytest.approx(np.linalg.multi_dot(layers[::-1]))
    assert np.abs(share.sum(axis=1) - 1).max() < 1e-12
    assert plot.rollout(alphas, residual).images[0].get_array().data == pytest.approx(share)


def test_the_query_of_an_empty_row_keeps_its_own_token():
    alphas = weights(2, 2, 4, 4)
    alphas[:, :, 1] = 0
    share = plot.rollout_weights(alphas)
    assert np.abs(share.sum(axis=1) - 1).max() < 1e-12
    assert share[1] == pytest.approx([0, 1, 0, 0])


def smallest_cut(matrices, query, token):
    """The least capacity of an edge set that parts a query from a token, over all of them."""
    n = len(matrices[0])
    middle = [(level, t) for level in range(1, len(matrices)) for t in range(n)]
    best = np.inf
    for inside in chain.from_iterable(combinations(middle, k) for k in range(len(middle) + 1)):
        with_query = {*inside, (len(matrices), query)}
        cut = 0.0
        for level, t in with_query:
            row = matrices[level - 1][t]
            if level == 1:
                cut += row[token]
            else:
                cut += sum(row[j] for j in range(n) if (level - 1, j) not in with_query)
        best = min(best, cut)
    return best


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_flow_is_the_smallest_cut(layers):
    """Max-flow min-cut, the cuts all tried. Other bottom tokens lead nowhere, so only the token's side counts."""
    alphas = weights(layers, 2, 3, 3, seed=layers, sharp=3.0)
    matrices = mixed("test", alphas, 0.5)
    flows = plot.flow_weights(alphas)
    for query in range(3):
        for token in range(3):
            assert flows[query, token] == pytest.approx(smallest_cut(matrices, query, token), abs=1e-14)


def test_flow_through_one_layer_is_the_layer_and_some_queries_are_some_rows():
    alphas = weights(1, 2, 5, 5)
    assert plot.flow_weights(alphas) == pytest.approx(mixed("test", alphas, 0.5)[0], abs=1e-15)
    deep = weights(3, 2, 5, 5)
    assert np.array_equal(plot.flow_weights(deep, queries=[4, 1]), plot.flow_weights(deep)[[4, 1]])
    ax = plot.flow(deep, queries=[4], labels=list("abcde"))
    assert ax.images[0].get_array().shape == (1, 5)


def test_text_is_readable_and_complete():
    alpha = np.array([[1.0, 0, 0], [0.25, 0.75, 0], [0, 0, 0], [0.5, np.nan, 0.1]])
    allowed = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 0]], bool)
    lines = plot.text(alpha, allowed=allowed, query_labels=list("wxyz"), key_labels=["$x$", "\n", "c"]).splitlines()
    assert lines[1:6] == [
        "i \\ j  $x$   \\n    c",
        "    w  100    /    /",
        "    x   25   75    /",
        "    y    -    -    -",
        "    z   50  NaN  !10",
    ]
    assert lines[0].startswith("weights in percent; / masked")
    assert "The largest is 1, query 0 “w”, key 0 “$x$”" in lines[-1]


def test_a_wide_matrix_is_a_list_of_the_largest():
    alpha = weights(3, 60)
    lines = plot.text(alpha, top=2).splitlines()
    order = np.argsort(-alpha[1])
    assert lines[2] == f"Query 1: key {order[0]} {alpha[1, order[0]]:.3f}, key {order[1]} {alpha[1, order[1]]:.3f}"
    assert all(len(line) < 400 for line in lines)


def test_alt_text_counts_what_is_there():
    alpha = weights(4, 4)
    alpha[2] = 0
    alpha[0, 0] = np.nan
    words = plot.describe(alpha)
    assert "4 queries by 4 keys" in words
    assert "4 of 16 cells: empty row (attends to nothing)." in words
    assert "1 of 16 cells: NaN or ∞." in words
    assert "1 of 4 rows holds NaN or ∞. Every other row that attends sums to 1." in words
    assert f"Query 1 attends most to key {alpha[1].argmax()} ({alpha[1].max():.2f})" in words


def test_arcs_leave_out_little_and_say_so():
    alpha = np.array([[0.94, 0.06, 0.0], [0.02, 0.49, 0.49], [0.0, 0.0, 1.0]])
    ax = plot.arcs(list("abc"), alpha)
    lines = ax.collections[0]
    assert sorted(lines.get_array()) == pytest.approx([0.06, 0.49, 0.49, 0.94, 1.0])
    assert "0.05 or more; those left out hold 1%" in ax.get_xlabel()
    assert len(plot.arcs(list("abc"), alpha, query=1).collections[0].get_segments()) == 2


def test_an_overlay_is_not_smoothed_unless_asked_and_then_says_so():
    alpha = weights(16)
    ax = plot.overlay(np.ones((32, 32, 3)), alpha)
    _, over = ax.images
    assert np.array_equal(over.get_array(), alpha.reshape(4, 4))
    assert over.get_interpolation() == "nearest"
    assert over.get_clim() == (0, alpha.max())
    assert "smoothed" not in ax.get_xlabel()
    smooth = plot.overlay(np.ones((32, 32, 3)), alpha, smooth=True)
    assert smooth.images[1].get_interpolation() == "bilinear"
    assert "smoothed between patches" in smooth.get_xlabel()
    assert "hold 100% of the query's attention" in ax.get_xlabel()


def test_a_translation_is_read_from_the_top():
    ax = plot.alignment(weights(3, 4), list("abcd"), list("xyz"))
    assert ax.xaxis.get_label_position() == "top"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("source, key (j)", "target, query (i)")


def test_bars_are_the_row():
    alpha, allowed = weights(4, 6), np.tri(4, 6, 1, dtype=bool)
    alpha = np.where(allowed, alpha, 0)
    alpha /= alpha.sum(axis=1, keepdims=True)
    ax = plot.rows(alpha, 2, allowed=allowed)
    bars = [patch.get_height() for container in ax.containers for patch in container]
    assert bars == pytest.approx(alpha[2, :4])
    assert ax.get_ylim() == (0, 1)
