"""The stages of `ar.attention`, forward and backward, as its tape and its gradients have them."""

import numpy as np
import pytest
from plot_help import hatches

import attention_ref as ar
from attention_ref import plot

rng = np.random.default_rng(11)


def drawn():
    return (rng.standard_normal(shape) for shape in ((2, 5, 3), (2, 7, 3), (2, 7, 4)))


def attended(**options):
    return ar.attention(*drawn(), **options)


def titles(axes):
    return [ax.get_title() for ax in axes]


def test_every_stage_that_was_applied_is_shown_in_order():
    a = attended(
        allowed=np.tri(5, 7, 2, dtype=bool), bias=rng.standard_normal((5, 7)), softcap=3.0,
        dropout=(rng.random((2, 5, 7)) < 0.8, 0.2),
    )  # fmt: skip
    _, axes = plot.pipeline(a, index=1, row=3)
    assert titles(axes) == [
        "score", "× scale", "softcap", "+ bias", "allowed", "only the allowed", "α", "α after dropout", "query 3"
    ]  # fmt: skip
    shown = {ax.get_title(): ax for ax in axes}
    for title, name in (("score", "score"), ("softcap", "capped"), ("+ bias", "biased"), ("α", "alpha")):
        assert np.array_equal(shown[title].images[0].get_array().data, a.tape[name][1])
    masked = shown["only the allowed"].images[0].get_array()
    assert np.array_equal(masked.mask, np.isneginf(a.tape["masked"][1]))
    assert "masked (may not attend)" in hatches(shown["α"])
    assert [patch.get_height() for patch in shown["query 3"].containers[0]] == pytest.approx(a.alpha[1, 3, :6])
    assert len({id(shown[title].images[0].norm) for title in titles(axes)[:4]}) == 1


def test_what_was_not_applied_is_not_shown():
    _, axes = plot.pipeline(attended(rule="dot").tape, index=0)
    assert titles(axes) == ["score", "α", "query 0"]


def test_a_head_must_be_chosen():
    with pytest.raises(ar.ShapeError, match="1 leading axes longer than one; give index="):
        plot.pipeline(attended())
    with pytest.raises(ar.OptionError, match="there are 2 entries"):
        plot.pipeline(attended(), index=2)


@pytest.mark.parametrize(
    "options",
    [
        {}, {"allowed": np.tri(5, 7, 2, dtype=bool)}, {"normalize": "sparsemax"}, {"sink": np.array(0.5)},
        {"dropout": (rng.random((2, 5, 7)) < 0.8, 0.2)},
        {"empty_row": "uniform", "allowed": np.tri(5, 7, -1, dtype=bool)},
    ],
    ids=["plain", "masked", "sparsemax", "sink", "dropout", "filled"],
)  # fmt: skip
def test_ds_is_the_gradient_of_a_bias(options):
    """A zero bias enters where the scores do, so its gradient is ds; dα is that of the weights shown."""
    q, k, v = drawn()
    a = ar.attention(q, k, v, bias=np.zeros((2, 5, 7)), **options)
    do, dalpha = rng.standard_normal(a.o.shape), rng.standard_normal(a.alpha.shape)
    expected = a.backward(do, dalpha=dalpha)["bias"]
    _, axes = plot.backward(a, do, dalpha=dalpha, index=1, check_rows="ignore")
    assert titles(axes) == ["α", "dα", "ds"]
    ds = axes[2].images[0].get_array()
    assert np.allclose(np.ma.filled(ds, 0), np.where(np.ma.getmaskarray(ds), 0, expected[1]))
    assert np.allclose(expected[1][np.ma.getmaskarray(ds)], 0)
    through = (do @ np.swapaxes(v, -1, -2) + dalpha)[1]
    if not options:
        assert np.allclose(axes[1].images[0].get_array(), through)
    if "empty_row" in options:
        assert np.allclose(axes[1].images[0].get_array().data[0], through[0])


def test_one_cotangent_is_enough():
    a = attended()
    dalpha = rng.standard_normal(a.alpha.shape)
    _, axes = plot.backward(a, dalpha=dalpha, index=0)
    assert np.allclose(axes[1].images[0].get_array(), dalpha[0])
    with pytest.raises(ar.ShapeError, match="dalpha has shape"):
        plot.backward(a, dalpha=dalpha[..., :3], index=0)
