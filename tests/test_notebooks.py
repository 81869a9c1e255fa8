"""The notebooks: every one runs in a fresh kernel, and what is stored is clean and complete."""

import json
from collections import Counter
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
EACH = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


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


@pytest.mark.notebooks
@EACH
def test_a_notebook_runs_in_a_fresh_kernel(path):
    """Errors are fatal; every cell shows as many figures and texts as it does in the stored file."""
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    for n, (now, stored) in enumerate(zip(notebook.cells, load(path)["cells"], strict=True)):
        assert kinds(now) == kinds(stored), f"cell {n}"
