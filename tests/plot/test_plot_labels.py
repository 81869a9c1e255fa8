"""Labels: at their cells, never over each other, and showing what a token is."""

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure
from plot_help import overlaps, pixels, tick_labels, weights

from attention_ref import plot
from attention_ref.plot.drawing import fonts
from attention_ref.plot.drawing.labels import LONGEST, visible_token

WORDS = ["the", "antidisestablishmentarianism", "of", "$x$", "\n", " cat", "W" * 12, "i"]


def tokens(n):
    return [WORDS[i % len(WORDS)] for i in range(n)]


@pytest.mark.parametrize("n", [3, 17, 60, 200, 1000])
@pytest.mark.parametrize("inches", [2.5, 7])
@pytest.mark.parametrize("labelled", [True, False])
def test_labels_never_overlap_and_sit_at_their_cells(n, inches, labelled):
    figure = Figure(figsize=(inches, inches), layout="constrained")
    texts = tokens(n) if labelled else None
    ax = plot.heatmap(weights(n, n), ax=figure.subplots(), query_labels=texts, key_labels=texts)
    names = [visible_token(text) for text in texts] if labelled else [str(i) for i in range(n)]
    for axis, direction in ((ax.xaxis, 0), (ax.yaxis, 1)):
        drawn = tick_labels(axis)
        assert overlaps(drawn) == []
        assert drawn[0].get_text() == names[0]
        for label in drawn:
            at = label.get_position()[direction]
            assert label.get_text() == names[round(at)]
    assert overlaps(tick_labels(ax.xaxis) + tick_labels(ax.yaxis)) == []


def test_labels_are_thinned_anew_when_the_figure_changes():
    figure = Figure(figsize=(12, 12))
    ax = plot.heatmap(weights(40, 40), ax=figure.subplots(), key_labels=tokens(40))
    many = len(tick_labels(ax.xaxis))
    figure.set_size_inches(4, 4)
    few = tick_labels(ax.xaxis)
    assert many == 40 > len(few) > 5
    assert overlaps(few) == []


@pytest.mark.parametrize(
    ("ticks", "expected"),
    [(True, "abcdefgh"), (False, ""), (3, "adg"), (list("ijklmnop"), "ijklmnop"), ("auto", "abcdefgh")],
)  # fmt: skip
def test_ticks_as_in_seaborn(ticks, expected):
    ax = plot.heatmap(weights(8, 8), key_labels=list("abcdefgh"), xticklabels=ticks)
    assert [label.get_text() for label in tick_labels(ax.xaxis)] == list(expected)


@pytest.mark.parametrize(
    ("token", "text"),
    [
        ("plain", "plain"), (r"$\frac$", r"$\frac$"), ("$x$", "$x$"), ("a\nb", "a\\nb"), ("\t", "\\t"), (" ", "␣"),
        (" cat ", "␣cat␣"), ("a b", "a b"), ("", "''"), ("\x07", "\\x07"), ("\u200b", "\\u200b"), ("\ud800", "\\ud800"),
        ("\u202e", "\\u202e"), ("\U000e0001", "\\U000e0001"), ("\xa0", "\\xa0"), ("Ġthe", "Ġthe"),
        ("x" * 40, "x" * 15 + "…"), ("注意", "注意"),
    ],
)  # fmt: skip
def test_a_token_is_shown_as_it_is(token, text):
    assert visible_token(token) == text
    assert len(text) <= LONGEST


def test_dollars_are_not_mathematics():
    """`$\\frac$` raises and `$x$` is typeset where Matplotlib is left to parse."""
    ax = plot.heatmap(weights(2, 2), key_labels=[r"$\frac$", "$x$"], query_labels=["$", "$$"])
    drawn = tick_labels(ax.xaxis) + tick_labels(ax.yaxis)
    assert [label.get_text() for label in drawn] == [r"$\frac$", "$x$", "$", "$$"]
    assert not any(label.get_parse_math() for label in drawn)
    for other in (
        plot.rows(weights(2, 2), 1, query_labels=["a", r"$\frac$"]),
        plot.arcs([r"$\frac$", "$x$"], weights(2, 2)),
    ):
        pixels(other.figure)
    assert plot.rows(weights(2, 2), 1, query_labels=["a", "$x$"]).title.get_parse_math() is False


@pytest.fixture
def only_dejavu(monkeypatch):
    """A machine with Matplotlib's own fonts and no other."""
    own = [font for font in font_manager.fontManager.ttflist if font.name.startswith("DejaVu")]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    for cache in (fonts.search, fonts.warn_once):
        cache.cache_clear()
    yield
    for cache in (fonts.search, fonts.warn_once):
        cache.cache_clear()


def test_without_a_font_one_warning_names_what_to_install(only_dejavu):
    with pytest.warns(UserWarning, match="Install") as caught:
        _, axes = plot.heads(weights(3, 2, 2), query_labels=["注", "意"], key_labels=["力", "🚀"])
    assert len(caught) == 1
    assert "no installed font has 力 意 注 🚀" in str(caught[0].message)
    assert "fonts-noto-cjk" in str(caught[0].message)
    assert "fonts-symbola" in str(caught[0].message)
    assert [label.get_text() for label in tick_labels(axes[1, 0].xaxis)] == ["U+529B", "U+1F680"]


def test_hebrew_and_arabic_have_a_font(only_dejavu):
    ax = plot.heatmap(weights(2, 2), key_labels=["שלום", "مرحبا"])
    assert len(tick_labels(ax.xaxis)) == 2


def test_an_installed_font_is_found(monkeypatch):
    """A family that has a character is used after the default one, which here lacks a letter."""
    path = fonts.default_path()
    real = fonts.characters
    monkeypatch.setattr(fonts, "characters", lambda p: real(p) - {"ж"} if p == path else real(p))
    fonts.search.cache_clear()
    chosen = fonts.Fonts("test", ["ж"])
    fonts.search.cache_clear()
    assert chosen.missing == frozenset()
    assert len(chosen.families) == 2
    assert "ж" in real(chosen.paths[1])


def test_every_character_has_a_width():
    default = fonts.Fonts("test", ["iW"])
    assert 0.2 < default.width("i") < 0.4 < 0.8 < default.width("W") < 1.2


def test_tokens_stand_upright_only_where_they_must():
    wide = plot.heatmap(weights(4, 4), key_labels=["a", "b", "c", "d"])
    assert {label.get_rotation() for label in tick_labels(wide.xaxis)} == {0}
    narrow = plot.heatmap(weights(4, 4), key_labels=["international"] * 4)
    assert {label.get_rotation() for label in tick_labels(narrow.xaxis)} == {90}


@pytest.mark.parametrize("n", [2, 9, 40])
def test_nothing_on_a_heatmap_overlaps_or_is_cut_off(n):
    alpha = weights(n, n)
    allowed = np.tri(n, dtype=bool)
    alpha = np.where(allowed, alpha, 0)
    alpha /= alpha.sum(axis=1, keepdims=True)
    ax = plot.heatmap(alpha, allowed=allowed, query_labels=tokens(n), key_labels=tokens(n), title="head 3")
    figure = ax.figure
    drawn = tick_labels(ax.xaxis) + tick_labels(ax.yaxis) + [ax.xaxis.label, ax.yaxis.label, ax.title]
    bar = ax.child_axes[0].yaxis
    drawn += [*ax.get_legend().get_texts(), bar.label, *tick_labels(bar)]
    assert overlaps(drawn) == []
    for text in drawn:
        box = text.get_window_extent()
        assert box.x0 >= 0 <= box.y0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height
