"""The page on heatmaps names every public function, and its pictures exist, are small and can be drawn."""

import importlib.util
import re
from pathlib import Path

import pytest
from PIL import Image

from attention_ref import plot

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "heatmaps.md").read_text(encoding="utf-8")
WORDS_ONLY = {"describe", "flow_weights", "rollout_weights", "row_entropy", "save", "text"}


def load(name):
    spec = importlib.util.spec_from_file_location(f"draw_{name}", DOCS / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_every_public_function_is_named_and_drawn():
    named = set(re.findall(r"`(\w+)`", PAGE))
    assert set(plot.__all__) - named == set()
    drawn = {Path(path).stem for path in re.findall(r"\]\((pictures/[^)]+)\)", PAGE)}
    assert drawn == set(plot.__all__) - WORDS_ONLY | {"minilm"}


def test_every_picture_is_there_and_they_are_small():
    shown = {DOCS / path for path in re.findall(r"\]\((pictures/[^)]+)\)", PAGE)}
    assert shown == set((DOCS / "pictures").iterdir())
    assert sum(path.stat().st_size for path in shown) < 1_500_000


@pytest.mark.slow
def test_the_picture_of_the_readme_shows_what_its_script_draws(tmp_path):
    load("readme_picture").main(tmp_path / "readme.png")
    drawn, stored = (Image.open(folder / "readme.png").text["Description"] for folder in (tmp_path, DOCS))
    assert drawn == stored, "run: python docs/readme_picture.py docs/readme.png"
    assert (DOCS / "readme.png").stat().st_size < 100_000


@pytest.mark.slow
def test_the_pictures_can_be_drawn(tmp_path, monkeypatch):
    script = load("heatmaps")
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda name: None)
    script.main(tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == set(plot.__all__) - WORDS_ONLY
