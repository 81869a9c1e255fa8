"""What a heatmap's cells say: numbers, colors, and what is masked, in an empty row, NaN or leaking."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from plot_help import causal, hatches, legend_texts, pixels, weights

from attention_ref import OptionError, plot
from attention_ref.plot.difference import compare
from attention_ref.plot.drawing import colors
from attention_ref.plot.drawing.cells import Number
from attention_ref.plot.drawing.reduction import make_grid
from attention_ref.plot.drawing.states import EMPTY, LEAK, MASKED, NAMES, NAN, SEEN, classify

rng = np.random.default_rng(7)


def numbers(ax):
    pixels(ax.figure)
    return [artist for artist in ax.get_children() if isinstance(artist, Number)]


def test_the_image_is_the_matrix_on_a_scale_from_0_to_1():
    alpha = weights(5, 7)
    ax = plot.heatmap(alpha)
    (image,) = ax.images
    assert np.array_equal(image.get_array(), alpha)
    assert image.get_clim() == (0, 1)
    assert image.get_interpolation() == "nearest"
    assert tuple(image.get_extent()) == (-0.5, 6.5, 4.5, -0.5)
    assert ax.get_ylim() == (4.5, -0.5)
    assert ax.get_xlim() == (-0.5, 6.5)
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("query (i)", "key (j)")


def test_uniform_weights_look_the_same_whatever_their_size():
    """The lie of a scale of one's own: 1/3 everywhere drawn as an extreme."""
    for n in (3, 11):
        image = plot.heatmap(np.full((n, n), 1 / n)).images[0]
        assert image.norm(1 / n) == pytest.approx(1 / n)


@pytest.fixture
def troubled():
    """One cell or row of every kind: (weights, allowed, what each cell is)."""
    alpha, allowed = causal(7, 7)
    allowed[4] = False
    alpha[4] = 0
    alpha[5, 2] = np.nan
    alpha[6, 1] = np.inf
    alpha[1, 5] = 0.25
    kinds = np.where(allowed, SEEN, MASKED)
    kinds[4] = EMPTY
    kinds[5, 2] = kinds[6, 1] = NAN
    kinds[1, 5] = LEAK
    return alpha, allowed, kinds


def test_every_cell_has_its_state(troubled):
    alpha, allowed, kinds = troubled
    assert np.array_equal(classify(alpha, allowed), kinds)


def test_every_state_has_a_hatch_of_its_own_and_a_line_in_the_legend(troubled):
    alpha, allowed, kinds = troubled
    with pytest.warns(UserWarning, match=r"row 1 sums to 1\.25, not 1"):
        ax = plot.heatmap(alpha, allowed=allowed)
    drawn = hatches(ax)
    assert set(drawn) == set(NAMES.values())
    assert len({patch.get_hatch() for patch in drawn.values()}) == 4
    assert legend_texts(ax) == [*NAMES.values(), "near 0"]
    assert np.array_equal(ax.images[0].get_array().mask, ~np.isin(kinds, (SEEN, LEAK)))
    assert "row 1 sums to 1.25, not 1" in ax.get_xlabel()


def test_the_states_differ_in_the_picture_and_in_gray(troubled):
    alpha, allowed, _ = troubled
    alpha[3, 0] = 0
    ax = plot.heatmap(alpha, allowed=allowed, check_rows="ignore", annot=False)
    image = pixels(ax.figure)[..., :3] @ (0.299, 0.587, 0.114)
    samples = {}
    for state, (i, j) in {MASKED: (0, 3), EMPTY: (4, 3), NAN: (5, 2), "zero": (3, 0)}.items():
        x0, y0 = ax.transData.transform((j - 0.4, i + 0.4))
        x1, y1 = ax.transData.transform((j + 0.4, i - 0.4))
        patch = image[len(image) - int(y1) : len(image) - int(y0), int(x0) : int(x1)]
        samples[state] = (patch.mean(), patch.std())
    assert samples["zero"][1] < 1
    assert all(samples[state][1] > 10 for state in (MASKED, EMPTY, NAN))
    assert all(samples[state][0] - samples["zero"][0] > 60 for state in (MASKED, EMPTY, NAN))
    means = sorted(samples[state][0] for state in (MASKED, EMPTY, NAN))
    assert min(np.diff(means)) > 3


def test_without_a_mask_a_row_of_zeros_is_empty_and_a_zero_is_a_zero():
    alpha = weights(3, 5)
    alpha[1] = 0
    alpha[0] = (1, 0, 0, 0, 0)
    assert np.array_equal(classify(alpha, None), np.array([[SEEN] * 5, [EMPTY] * 5, [SEEN] * 5]))
    assert legend_texts(plot.heatmap(alpha)) == [NAMES[EMPTY], "near 0"]


def test_without_trouble_there_is_no_legend():
    assert plot.heatmap(weights(3, 5)).get_legend() is None


def test_scores_that_are_minus_infinity_are_masked_and_others_not():
    s = np.array([[1.0, -np.inf, np.inf], [-np.inf, -np.inf, -np.inf]])
    assert np.array_equal(classify(s, None, "scores"), [[SEEN, MASKED, NAN], [EMPTY] * 3])


def test_a_gradient_must_be_zero_where_masked():
    ds, allowed = np.array([[1.0, 0.0, 2.0]]), np.array([[True, False, False]])
    assert np.array_equal(classify(ds, allowed, "gradient"), [[SEEN, MASKED, LEAK]])


@pytest.mark.parametrize("shape", [(2048, 2048), (1000, 3001), (513, 40)])
@pytest.mark.parametrize("inches", [3, 6])
def test_every_peak_is_lit_after_reduction(shape, inches):
    """One weight of 1 a row in thousands of keys: each must be seen, where nearest keeps a twentieth of a percent."""
    from matplotlib.figure import Figure

    alpha = np.zeros(shape)
    hot = rng.integers(0, shape[1], shape[0])
    alpha[np.arange(shape[0]), hot] = 1
    figure = Figure(figsize=(inches, inches))
    ax = plot.heatmap(alpha, ax=figure.subplots(), square=False, cbar=False)
    image = pixels(figure)
    lit = np.argwhere(np.all(np.abs(image[..., :3] - 255 * np.array(to_rgb("#fee838"))) < 12, axis=-1))
    centers = ax.transData.transform(np.stack([hot, np.arange(shape[0])], axis=1))
    wanted = np.stack([len(image) - centers[:, 1], centers[:, 0]], axis=1)
    for spot in wanted[:: max(1, shape[0] // 200)]:
        assert np.abs(lit - spot).max(axis=1).min() <= 2.5


def test_the_reduction_is_written_on_the_plot_and_ticks_stay_original():
    ax = plot.heatmap(weights(1100, 2048))
    block = make_grid(weights(1100, 2048), limits=ax.images[0].get_array().shape).block
    assert block > (1, 1)
    assert f"each cell: the largest of {block[0]} × {block[1]} (queries × keys)" in ax.get_xlabel()
    assert ax.get_xlim() == (-0.5, 2047.5)
    assert ax.get_ylim() == (1099.5, -0.5)


@pytest.mark.parametrize(("how", "expected"), [("max", 3), ("min", -4), ("mean", 0), ("extreme", -4)])
def test_a_block_shows_what_was_asked_for(how, expected):
    values = np.array([[3.0, 1.0], [0.0, -4.0]])
    assert make_grid(values, kind="plain", limits=(1, 1), how=how).values == [[expected]]


def test_blocks_are_the_maximum_of_ragged_parts():
    values = rng.random((11, 17))
    grid = make_grid(values, kind="plain", limits=(4, 5))
    assert grid.block == (3, 4)
    expected = [[values[r : r + 3, c : c + 4].max() for c in range(0, 17, 4)] for r in range(0, 11, 3)]
    assert np.array_equal(grid.values, expected)


@pytest.mark.parametrize(("state", "shown"), [(NAN, NAN), (LEAK, LEAK), (SEEN, SEEN), (MASKED, MASKED), (EMPTY, EMPTY)])
def test_trouble_survives_reduction(state, shown):
    """One NaN or leak in a block of anything else is shown."""
    allowed = np.ones((8, 8), bool)
    alpha = np.full((8, 8), 1 / 8)
    if state in (MASKED, EMPTY):
        allowed[:, 0] = False
        allowed[:2] &= state == MASKED
        allowed[:2, :2] = False
    alpha = np.where(allowed, alpha, 0)
    if state == NAN:
        alpha[1, 1] = np.nan
    if state == LEAK:
        allowed[1, 1] = False
    assert make_grid(alpha, allowed, limits=(4, 4)).states[0, 0] == shown


def test_reduced_facts_are_the_whole_matrix_s():
    alpha, allowed = causal(50, 60)
    small, whole = (make_grid(alpha, allowed, limits=(n, n)) for n in (7, 60))
    assert small.counts == whole.counts
    assert small.peak == whole.peak
    assert np.allclose(small.sums, whole.sums)


def test_numbers_are_written_where_they_fit_in_black_or_white():
    alpha = np.array([[0.0, 1.0], [0.5, 0.5]])
    written = numbers(plot.heatmap(alpha))
    assert [number.get_text() for number in written] == ["0.00", "1.00", "0.50", "0.50"]
    assert [number.get_color() for number in written[:2]] == ["white", "black"]
    assert all(number.fits() for number in written)


def test_numbers_turn_off_when_the_cells_get_small():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5))
    ax = plot.heatmap(weights(20, 20), ax=figure.subplots())
    assert not any(number.fits() for number in numbers(ax))
    before = pixels(figure).copy()
    for number in numbers(ax):
        number.remove()
    assert np.array_equal(before, pixels(figure))
    figure.set_size_inches(16, 16)
    ax = plot.heatmap(weights(20, 20), ax=figure.add_subplot())
    assert all(number.fits() for number in numbers(ax))


def test_numbers_can_be_all_none_chosen_or_texts():
    alpha = weights(3, 4)
    assert numbers(plot.heatmap(alpha, annot=False)) == []
    assert len(numbers(plot.heatmap(weights(40, 40), annot=True))) == 1600
    chosen = np.eye(3, 4, dtype=bool)
    assert [n.get_text() for n in numbers(plot.heatmap(alpha, annot=chosen))] == [
        f"{alpha[i, i]:.2f}" for i in range(3)
    ]
    texts = np.full((3, 4), "$x$")
    assert {n.get_text() for n in numbers(plot.heatmap(alpha, annot=texts))} == {"$x$"}


def test_ink_has_the_larger_contrast():
    for shade in np.linspace(0, 1, 33):
        lum = colors.luminance((shade,) * 3)
        on_black, on_white = (lum + 0.05) / 0.05, 1.05 / (lum + 0.05)
        assert colors.ink((shade,) * 3) == ("black" if on_black > on_white else "white")


@pytest.mark.parametrize("cmap", [colors.colormap("test", colors.SEQUENTIAL), colors.SIGNED])
def test_the_colors_grow_steadily_in_luminance(cmap):
    """So they order the same way in gray, and for every kind of color vision."""
    lum = [colors.luminance(cmap(x)) for x in np.linspace(0, 1, 101)]
    assert min(np.diff(lum)) > 0
    assert lum[-1] - lum[0] > 0.5


DEFICIENT = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("matrix", DEFICIENT.values(), ids=DEFICIENT)
@pytest.mark.parametrize("cmap", [colors.colormap("test", colors.SEQUENTIAL), colors.SIGNED])
def test_a_color_blind_reader_sees_the_order_too(cmap, matrix):
    """Machado and others (2009), severity 1, in linear RGB: eleven steps stay in order, and apart."""
    rgb = np.array([cmap(x)[:3] for x in np.linspace(0, 1, 11)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(matrix).T, 0, 1) @ (0.2126, 0.7152, 0.0722)
    assert min(np.diff(seen)) > 0.004


def test_what_passes_the_scale_by_rounding_is_at_its_end_and_by_more_is_marked():
    assert plot.heatmap(np.eye(3) * (1 + 1e-7)).images[0].get_array().max() == 1
    with pytest.warns(UserWarning, match=r"3 of 3 rows sum to 1\.3"):
        ax = plot.heatmap(np.eye(3) * 1.3)
    assert ax.images[0].get_array().max() == 1.3
    assert colors.extend(ax.images[0].norm, [make_grid(np.eye(3) * 1.3)]) == "max"


def test_the_colorbar_is_the_image_s():
    ax = plot.heatmap(weights(4, 4))
    (bar,) = ax.child_axes
    assert bar.get_ylim() == (0, 1)
    assert bar.get_ylabel() == "weight α"
    assert plot.heatmap(weights(4, 4), cbar=False).child_axes == []


def test_a_gradient_is_centered_on_zero():
    ds = rng.standard_normal((5, 7))
    ax = plot.gradient(ds)
    assert ax.images[0].get_clim() == (-np.abs(ds).max(), np.abs(ds).max())
    assert plot.gradient(np.zeros((3, 3))).images[0].get_clim() == (-1, 1)


def test_a_gradient_keeps_its_extremes_of_both_signs():
    ds = np.zeros((2000, 2000))
    ds[7, 7], ds[1500, 1400] = -3, 2
    drawn = plot.gradient(ds).images[0].get_array()
    assert (drawn.min(), drawn.max()) == (-3, 2)


def test_a_mask_shows_what_is_allowed_and_how_much():
    allowed = np.tri(4, 6, dtype=bool)
    allowed[2] = False
    ax = plot.mask(allowed)
    assert set(hatches(ax)) == {NAMES[MASKED], NAMES[EMPTY]}
    assert legend_texts(ax) == ["allowed (may attend)", NAMES[MASKED], NAMES[EMPTY]]
    assert "29.2% allowed" in ax.get_xlabel()
    assert np.array_equal(ax.images[0].get_array().mask, ~allowed)


@pytest.mark.parametrize("way", ["warn", "raise", "ignore"])
def test_rows_that_do_not_sum_to_one_are_reported(way, recwarn):
    columns = weights(5, 5).T
    if way == "raise":
        with pytest.raises(OptionError, match=r"5 of 5 rows sum to .* must sum to 1"):
            plot.heatmap(columns, check_rows=way)
        return
    if way == "ignore":
        plot.heatmap(columns, check_rows=way)
        return
    with pytest.warns(UserWarning, match=r"heatmap: 5 of 5 rows sum to 0\.\d+ to [\d.]+, not 1"):
        plot.heatmap(columns, check_rows=way)


def test_empty_rows_and_half_precision_sum_well_enough():
    alpha, allowed = causal(5, 5)
    allowed[2] = False
    alpha[2] = 0
    plot.heatmap(alpha.astype(np.float16), allowed=allowed)
    with pytest.warns(UserWarning, match="row 3 sums to 0"):
        plot.heatmap(np.where(np.arange(5)[:, None] == 3, 0, alpha), allowed=allowed)


def test_narrow_and_whole_numbers_are_drawn_as_they_are():
    for dtype in (int, np.uint8, np.float16, np.float32):
        assert np.array_equal(plot.heatmap(np.eye(3, dtype=dtype)).images[0].get_array(), np.eye(3))


@pytest.mark.parametrize("kind", ["abs", "rel", "ulp", "score"])
def test_a_difference_is_what_it_says(kind):
    b = rng.standard_normal((5, 7)).astype(np.float32)
    a = (b + 1e-6 * rng.standard_normal((5, 7))).astype(np.float32)
    bound = np.full((5, 7), 1e-6)
    d = a.astype(np.float64) - b
    expected = {"abs": d, "rel": d / np.abs(b), "ulp": d / np.spacing(np.abs(b)), "score": d / bound}[kind]
    ax = plot.difference(a, b, kind, bound=bound if kind == "score" else None, tile=(2, 3))
    assert np.allclose(ax.images[0].get_array(), expected)
    low, high = ax.images[0].get_clim()
    assert low == -high == -np.abs(expected).max()
    lines = {tuple(map(tuple, segment)) for segment in ax.collections[0].get_segments()}
    assert lines == {
        ((-0.5, 1.5), (6.5, 1.5)), ((-0.5, 3.5), (6.5, 3.5)), ((2.5, -0.5), (2.5, 4.5)), ((5.5, -0.5), (5.5, 4.5))
    }  # fmt: skip
    assert "tiles of 2 × 3" in ax.get_xlabel()


def test_the_same_nan_is_no_difference_and_another_is():
    a = np.array([[np.nan, 1.0, np.inf, -np.inf]])
    b = np.array([[np.nan, np.nan, np.inf, np.inf]])
    assert "NaN or ∞" in hatches(plot.difference(a, b))
    assert np.array_equal(classify(compare(a, b, "abs"), None, "plain")[0], [0, NAN, 0, NAN])
    assert "a and b are the same" in plot.difference(a, a).get_xlabel()
