"""Run notebooks in fresh kernels and store them, figures and all: `python notebooks/run.py [08 13 ...]`."""

import sys
from pathlib import Path

import nbclient
import nbformat

HERE = Path(__file__).parent
DIGEST = "import digest; digest.install(); del digest"


def executed(path, before=""):
    """The notebook after a run in a fresh kernel, where an error is fatal; `before` is run first, unseen."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [nbformat.v4.new_code_cell(f"{before}\n{DIGEST}"), *notebook.cells]
    options = {"timeout": 300, "record_timing": False, "coalesce_streams": True}
    nbclient.NotebookClient(notebook, **options, resources={"metadata": {"path": str(HERE)}}).execute()
    del notebook.cells[0]
    for n, cell in enumerate(cell for cell in notebook.cells if cell.cell_type == "code"):
        cell.execution_count = n + 1
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = n + 1
    notebook.metadata.language_info.pop("version", None)  # the reader's Python is another
    return notebook


def main(*names):
    for path in sorted(HERE.glob("*.ipynb")):
        if not names or path.stem.startswith(names):
            nbformat.write(executed(path), path)
            print(path.name)


if __name__ == "__main__":
    main(*sys.argv[1:])
