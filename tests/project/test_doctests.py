"""What docstrings and pages show at a prompt is what Python says, and every public function shows something."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import attention_ref as ar

ROOT = Path(__file__).parents[2]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
SOURCES = sorted((ROOT / "attention_ref").rglob("*.py"))
MODULES = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in SOURCES if ">>>" in path.read_text()]
PAGES = [path for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")) if ">>>" in path.read_text(encoding="utf-8")]
PUBLIC = {name: getattr(ar, name) for name in ar.__all__ if callable(getattr(ar, name))}
PUBLIC |= {f"masks.{name}": f for name in ar.masks.__all__ if callable(f := getattr(ar.masks, name))}
PUBLIC |= {f"cache.{name}": getattr(ar.cache, name) for name in ("append", "write", "gather", "merge")}
SHOWN_ELSEWHERE = {"Attended", "CheckFailed", "OptionError", "Rule", "ShapeError", "masks.as_mask"}


@pytest.mark.parametrize("name", MODULES)
def test_docstrings_are_true(name):
    tried = doctest.testmod(import_module(name), optionflags=FLAGS)
    assert tried.attempted
    assert not tried.failed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_true(page):
    tried = doctest.testfile(str(page), module_relative=False, optionflags=FLAGS, encoding="utf-8")
    assert tried.attempted
    assert not tried.failed


def test_there_are_pages():
    assert PAGES


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - SHOWN_ELSEWHERE))
def test_every_public_function_has_an_example(name):
    assert ">>> " in PUBLIC[name].__doc__


def test_a_wrong_docstring_is_seen(tmp_path):
    page = tmp_path / "wrong.md"
    page.write_text("Two and two:\n\n>>> 2 + 2\n5\n")
    assert doctest.testfile(str(page), module_relative=False, optionflags=FLAGS, report=False).failed == 1
