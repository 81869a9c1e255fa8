"""Figures: bare ones, subfigures, grids on one scale; the same bytes for the same array; nothing global touched."""

import inspect
import os
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from plot_help import causal, hatches, legend_texts, overlaps, pixels, tick_labels, weights, written

import attention_ref as ar
from attention_ref import plot


def panels(axes):
    return [ax for ax in axes.flat if ax.get_visible()]


def colorbars(figure):
    return [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]


def test_all_heads_are_on_one_scale_with_one_bar():
    alpha = weights(5, 7, 11, sharp=4.0)
    alpha[2] = 1 / 11
    figure, axes = plot.heads(alpha)
    assert axes.shape == (2, 3)
    assert len(panels(axes)) == 5
    for head, ax in enumerate(panels(axes)):
        assert np.array_equal(ax.images[0].get_array(), alpha[head])
        assert ax.get_title() == f"head {head}"
    assert len({id(ax.images[0].norm) for ax in panels(axes)}) == 1
    assert panels(axes)[0].images[0].get_clim() == (0, 1)
    assert len(colorbars(figure)) == 1
    assert [ax.get_ylabel() for ax in panels(axes)] == ["query (i)", "", "", "query (i)", ""]
    assert [ax.get_xlabel() for ax in panels(axes)] == ["", "", "key (j)", "key (j)", "key (j)"]


def test_scales_of_their_own_have_bars_of_their_own():
    alpha = weights(3, 4, 4)
    figure, axes = plot.heads(alpha, shared=False)
    for head, ax in enumerate(panels(axes)):
        assert ax.images[0].get_clim() == (alpha[head].min(), alpha[head].max())
        assert len(ax.child_axes) == 1
    assert colorbars(figure) == []


def test_some_heads_and_combined_ones():
    alpha = weights(6, 4, 5)
    _, axes = plot.heads(alpha, heads=[4, 1])
    assert [ax.get_title() for ax in panels(axes)] == ["head 4", "head 1"]
    assert np.array_equal(panels(axes)[0].images[0].get_array(), alpha[4])
    for over, combine in (("mean", np.mean), ("max", np.max), ("min", np.min)):
        _, axes = plot.heads(alpha, over_heads=over)
        (ax,) = panels(axes)
        assert np.allclose(ax.images[0].get_array(), combine(alpha, axis=0))
        assert ax.get_title() == f"{over} over 6 heads"


def test_what_one_head_may_see_the_heads_together_may():
    allowed = np.stack([np.tri(4, dtype=bool), np.tri(4, dtype=bool).T])
    alpha = allowed / allowed.sum(axis=-1, keepdims=True)
    _, axes = plot.heads(alpha, allowed=allowed, over_heads="mean")
    assert hatches(axes[0, 0]) == {}


def test_a_model_is_layers_by_heads():
    alphas = weights(3, 4, 5, 5)
    figure, axes = plot.layers(alphas)
    assert axes.shape == (3, 4)
    for layer in range(3):
        assert axes[layer, 0].get_ylabel() == f"layer {layer}\nquery (i)"
        for head in range(4):
            assert np.array_equal(axes[layer, head].images[0].get_array(), alphas[layer, head])
    assert [ax.get_title() for ax in axes[0]] == [f"head {head}" for head in range(4)]
    assert len(colorbars(figure)) == 1
    _, axes = plot.layers([one[None] for one in alphas], over_heads="mean", layers=[2, 0])
    assert [ax.get_title() for ax in panels(axes)] == ["layer 2, mean over 4 heads", "layer 0, mean over 4 heads"]
    assert np.allclose(panels(axes)[0].images[0].get_array(), alphas[2].mean(axis=0))
    _, axes = plot.layers(alphas, over_layers="max", heads=1)
    assert np.array_equal(panels(axes)[0].images[0].get_array(), alphas[:, 1].max(axis=0))


def test_a_grid_has_one_legend_and_reports_its_heads():
    alpha, allowed = causal(6, 6)
    alpha = np.stack([alpha, alpha * 0.9, alpha])
    with pytest.warns(UserWarning, match=r"heads: head 1: 6 of 6 rows sum to 0\.9, not 1"):
        figure, axes = plot.heads(alpha, allowed=allowed)
    assert legend_texts(figure) == ["masked (may not attend)", "near 0"]
    assert all("masked (may not attend)" in hatches(ax) for ax in panels(axes))
    assert "head 1: 6 of 6 rows" in figure.get_supxlabel()


@pytest.mark.parametrize("count", [1, 5, 12])
def test_nothing_on_a_grid_overlaps(count):
    alpha, allowed = causal(9, 9)
    names = [f"token{i}" for i in range(9)]
    alphas = np.stack([alpha] * count)
    figure, axes = plot.heads(alphas, allowed=allowed, query_labels=names, key_labels=names, max_cells=5)
    pixels(figure)
    texts = [*figure.texts, *figure.legends[0].get_texts()]
    for ax in panels(axes):
        texts += [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.get_xticklabels(), *ax.get_yticklabels()]
    assert "largest of 2 × 2" in figure.get_supxlabel()
    assert overlaps([text for text in texts if text.get_text()]) == []


def test_bare_figures_subfigures_and_given_axes():
    alpha = weights(3, 4, 4)
    bare = Figure()
    assert plot.heatmap(alpha[0], ax=bare.subplots()).figure is bare
    root = Figure(figsize=(12, 6), layout="constrained")
    left, right = root.subfigures(1, 2)
    figure, axes = plot.heads(alpha, figure=left)
    assert figure is left
    assert (
        plot.heatmap(alpha[1], ax=right.subplots(), allowed=np.tri(4, dtype=bool), check_rows="ignore").figure is right
    )
    pixels(root)
    assert overlaps([text for ax in panels(axes) for text in tick_labels(ax.xaxis)]) == []
    bare = Figure()
    plot.heads(alpha, figure=bare)
    pixels(bare)


ALL = {
    "alignment": lambda: plot.alignment(weights(3, 4), list("abcd"), list("efg")),
    "arcs": lambda: plot.arcs(list("abcd"), weights(4, 4)),
    "backward": lambda: plot.backward(attended(), np.ones((5, 3)))[0],
    "difference": lambda: plot.difference(weights(4, 5), weights(4, 5, seed=1), tile=(2, 2)),
    "entropy": lambda: plot.entropy(weights(2, 3, 4, 4)),
    "flow": lambda: plot.flow(weights(2, 3, 4, 4)),
    "gradient": lambda: plot.gradient(weights(4, 5) - 0.2),
    "heads": lambda: plot.heads(weights(3, 4, 5))[0],
    "heatmap": lambda: plot.heatmap(*causal(5, 5)[:1], allowed=causal(5, 5)[1]),
    "layers": lambda: plot.layers(weights(2, 3, 4, 5))[0],
    "mask": lambda: plot.mask(np.tri(4, 5, dtype=bool)),
    "overlay": lambda: plot.overlay(weights(8, 8), weights(16)),
    "pipeline": lambda: plot.pipeline(attended())[0],
    "rollout": lambda: plot.rollout(weights(2, 3, 4, 4)),
    "rows": lambda: plot.rows(weights(4, 5), 2),
}
NOT_PICTURES = {"describe", "flow_weights", "rollout_weights", "row_entropy", "save", "text", "training"}


def attended():
    rng = np.random.default_rng(3)
    q, k, v = (rng.standard_normal(shape) for shape in ((5, 2), (7, 2), (7, 3)))
    return ar.attention(q, k, v, allowed=np.tri(5, 7, 2, dtype=bool))


def test_every_public_function_is_here():
    assert set(ALL) | NOT_PICTURES == set(plot.__all__)
    assert all(getattr(plot, name).__doc__ for name in plot.__all__)


def test_every_public_function_has_types():
    for name in set(plot.__all__) - {"pipeline", "backward"}:
        signature = inspect.signature(getattr(plot, name))
        annotations = [parameter.annotation for parameter in signature.parameters.values()]
        assert signature.empty not in [*annotations, signature.return_annotation], name


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("format", ["png", "svg", "pdf"])
def test_the_same_array_gives_the_same_bytes(name, format):
    assert written(ALL[name](), format) == written(ALL[name](), format)


@pytest.mark.parametrize("name", ALL)
def test_every_picture_says_what_it_shows(name, tmp_path):
    figure = ALL[name]()
    path = tmp_path / "picture.png"
    plot.save(figure, path)
    words = Image.open(path).text["Description"]
    assert len(words) > 40
    svg = written(figure, "svg").decode()
    assert words.partition("\n")[0].split(",")[0] in svg
    assert "<dc:date>" not in svg


def test_another_process_writes_the_same_bytes():
    code = (
        "import sys, numpy as np; from attention_ref import plot; from io import BytesIO; import hashlib\n"
        "for format in ('png', 'svg', 'pdf'):\n"
        "    out = BytesIO(); a = np.eye(5); a[2] = 0\n"
        "    plot.save(plot.heatmap(a, key_labels=list('$bcde')), out, format)\n"
        "    print(hashlib.sha256(out.getvalue()).hexdigest())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert runs[0] == runs[1]
    assert len(runs[0].split()) == 3


def test_alt_text_in_any_script_is_kept(tmp_path):
    plot.save(plot.heatmap(weights(2, 2)), tmp_path / "a.png", alt="注意力 — α")
    assert Image.open(tmp_path / "a.png").text["Description"] == "注意力 — α"


def test_nothing_global_is_touched():
    before = dict(matplotlib.rcParams)
    for make in ALL.values():
        written(make(), "svg")
    assert dict(matplotlib.rcParams) == before


def test_pyplot_is_never_imported_and_matplotlib_only_when_asked(tmp_path):
    code = (
        "import sys, numpy as np, attention_ref as ar\n"
        "assert not [name for name in sys.modules if name.startswith(('matplotlib', 'PIL'))], 'too early'\n"
        "ar.plot.save(ar.plot.heatmap(np.eye(3)), 'a.png')\n"
        "ar.plot.training([np.eye(3), np.eye(3)], 'a.gif')\n"
        "assert 'matplotlib.pyplot' not in sys.modules, 'pyplot'\n"
    )
    path = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-W", "error", "-c", code]
    subprocess.run(command, check=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path})


def test_a_notebook_shows_a_figure_by_itself():
    assert plot.heatmap(np.eye(3)).figure._repr_png_()[:4] == b"\x89PNG"


def test_training_is_a_frame_a_step_on_one_scale(tmp_path):
    steps = [weights(4, 4, sharp=s) for s in (0.1, 1.0, 5.0)]
    first, second = (plot.training(steps, tmp_path / name, steps=[0, 10, 100]) for name in ("a.gif", "b.gif"))
    with Image.open(first) as gif:
        assert gif.n_frames == 3
    assert first.read_bytes() == second.read_bytes()
