"""Wrong input gets one sentence that says what came and what would be right."""

import numpy as np
import pytest
from plot_help import weights

from attention_ref import OptionError, ShapeError, masks, plot

A = weights(4, 5)
REFUSED = {
    "3-D to heatmap": (lambda: plot.heatmap(weights(2, 4, 5)), ShapeError, r"shape \(2, 4, 5\); plot.heads draws"),
    "4-D to heatmap": (lambda: plot.heatmap(weights(2, 2, 4, 5)), ShapeError, "plot.layers draws"),
    "5-D to heatmap": (lambda: plot.heatmap(weights(1, 1, 2, 4, 5)), ShapeError, "one batch entry"),
    "1-D to heatmap": (lambda: plot.heatmap(A[0]), ShapeError, "plot.rows draws one query"),
    "2-D to heads": (lambda: plot.heads(A), ShapeError, "plot.heatmap draws one"),
    "3-D to layers": (lambda: plot.layers(weights(2, 4, 5)), ShapeError, "plot.heads draws"),
    "3-D to gradient": (lambda: plot.gradient(weights(2, 4, 5)), ShapeError, r"ds must be \(query, key\)"),
    "empty": (lambda: plot.heatmap(np.zeros((0, 3))), ShapeError, "is empty"),
    "no layers": (lambda: plot.layers([]), ShapeError, "alphas is empty"),
    "complex": (lambda: plot.heatmap(A + 0j), OptionError, "complex.*alpha.real"),
    "boolean": (lambda: plot.heatmap(A > 0), OptionError, "plot.mask draws what is allowed"),
    "text": (lambda: plot.heatmap([["a"]]), OptionError, "real numbers"),
    "ragged": (lambda: plot.heatmap([[1, 2], [3]]), OptionError, "is no array"),
    "allowed of numbers": (lambda: plot.heatmap(A, allowed=np.ones((4, 5))), OptionError, "allowed must be boolean"),
    "allowed of another shape": (
        lambda: plot.heatmap(A, allowed=np.ones((5, 4), bool)),
        ShapeError,
        "does not broadcast",
    ),
    "a mask without sizes": (
        lambda: plot.heatmap(A, allowed=masks.causal()),
        OptionError,
        r"allowed.dense\(queries, keys\)",
    ),
    "3-D mask": (lambda: plot.mask(np.ones((2, 3, 4), bool)), ShapeError, r"allowed must be \(query, key\)"),
    "numeric mask": (lambda: plot.mask(A), OptionError, "must be boolean"),
    "too few labels": (lambda: plot.heatmap(A, key_labels=list("abc")), ShapeError, "key_labels has 3 labels for 5"),
    "labels in one string": (lambda: plot.heatmap(A, key_labels="abcde"), OptionError, "key_labels=text.split"),
    "too few tick labels": (
        lambda: plot.heatmap(A, yticklabels=list("ab")),
        ShapeError,
        "yticklabels has 2 labels for 4",
    ),
    "tick labels of a kind": (lambda: plot.heatmap(A, xticklabels="all"), OptionError, "'all' is none of"),
    "an axes that is none": (lambda: plot.heatmap(A, ax=3), OptionError, "ax must be a matplotlib Axes; got int"),
    "a figure that is none": (lambda: plot.heads(A[None], figure=3), OptionError, "figure must be a Figure"),
    "a colormap that is none": (lambda: plot.heatmap(A, cmap="vividis"), OptionError, "no colormap 'vividis'"),
    "a norm that is none": (lambda: plot.heatmap(A, norm="log"), OptionError, "norm must be a matplotlib"),
    "limits that cross": (lambda: plot.heatmap(A, vmin=1, vmax=0), OptionError, "vmin=1 must be below vmax=0"),
    "a reduction that is none": (lambda: plot.heatmap(A, reduce="median"), OptionError, "reduce='median' is none of"),
    "no cells": (lambda: plot.heatmap(A, max_cells=0), OptionError, "max_cells=0 must be a whole number"),
    "annotations of a kind": (lambda: plot.heatmap(A, annot="some"), OptionError, "annot='some' is none of"),
    "annotations of another shape": (
        lambda: plot.heatmap(A, annot=np.ones((2, 2), bool)),
        ShapeError,
        "annot of shape",
    ),
    "a way to check": (lambda: plot.heatmap(A, check_rows="maybe"), OptionError, "check_rows='maybe' is none of"),
    "a head too many": (lambda: plot.heads(weights(2, 4, 5), heads=[2]), OptionError, "there are 2 heads, 0 to 1"),
    "no head": (lambda: plot.heads(weights(2, 4, 5), heads=[]), OptionError, "heads is empty"),
    "an unknown option": (lambda: plot.heads(weights(2, 4, 5), vmix=2), OptionError, "no option 'vmix'"),
    "an unknown combination": (lambda: plot.heads(weights(2, 4, 5), over_heads="sum"), OptionError, "'sum'"),
    "layers that differ": (lambda: plot.layers([weights(2, 4, 4), weights(3, 4, 4)]), ShapeError, "different shapes"),
    "a batch": (lambda: plot.layers([weights(2, 3, 4, 4)]), ShapeError, "2 batch entries; choose one"),
    "a difference of shapes": (lambda: plot.difference(A, A.T), ShapeError, "a has shape .* and b"),
    "a difference of a kind": (lambda: plot.difference(A, A, "max"), OptionError, "kind='max' is none of"),
    "a score without a bound": (lambda: plot.difference(A, A, "score"), OptionError, "bound=.* belong together"),
    "half a tile": (lambda: plot.difference(A, A, tile=(2,)), OptionError, "must be .rows, columns."),
    "a row that is none": (lambda: plot.rows(A, 4), OptionError, "there are 4 queries, 0 to 3"),
    "a row of a kind": (lambda: plot.rows(A, "x"), OptionError, "must be an integer"),
    "rollout across": (lambda: plot.rollout(weights(2, 2, 4, 5)), ShapeError, "only self-attention passes"),
    "rollout of scores": (lambda: plot.rollout(weights(2, 2, 4, 4) * 2), OptionError, "sum to 2 to 2"),
    "rollout of negatives": (
        lambda: plot.rollout(np.array([[[[2.0, -1], [0, 1]]]])),
        OptionError,
        "smallest weight is -1",
    ),
    "a residual share": (lambda: plot.rollout(weights(2, 2, 4, 4), 1.5), OptionError, "must lie between 0 and 1"),
    "patches that do not fit": (
        lambda: plot.overlay(np.ones((8, 8)), np.ones(17)),
        ShapeError,
        "17 weights do not fill",
    ),
    "a matrix over an image": (lambda: plot.overlay(A, np.ones((2, 2, 2))), ShapeError, "choose alpha"),
    "an image that is none": (lambda: plot.overlay(np.ones(8), np.ones(16)), ShapeError, "image must be"),
    "a tape that is none": (lambda: plot.pipeline(A), OptionError, "give what ar.attention returned"),
    "nothing to go back from": (lambda: plot.backward({"alpha": A}), OptionError, "give do"),
    "a gif that is none": (lambda: plot.training([A], "a.png"), OptionError, "must end in .gif"),
    "a format that is none": (lambda: plot.save(plot.heatmap(A), "a.jpeg"), OptionError, "cannot write 'jpeg'"),
    "no figure": (lambda: plot.save(A, "a.png"), OptionError, "must be a figure or an axes"),
    "a least weight": (lambda: plot.arcs(list("abcd"), weights(4, 4), least=2), OptionError, "least=2 must lie"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_input_gets_a_sentence(case):
    call, kind, sentence = REFUSED[case]
    with pytest.raises(kind, match=sentence) as caught:
        call()
    assert "\n" not in str(caught.value)
