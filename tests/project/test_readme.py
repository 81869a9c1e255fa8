"""The README: its Python runs as printed, and its set-up is two commands."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "README.zh.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language, page=PAGES[0]):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


LONG = "what-does-a-score-mean.md"  # checks a kernel in half precision, 8 s
RUN = [
    pytest.param(page, marks=[pytest.mark.slow] * (page.name == LONG), id=page.name)
    for page in PAGES
    if blocks("python", page)
]


@pytest.mark.parametrize("page", RUN)
def test_python_runs_as_printed(page, capsys):
    """From top to bottom, as one reads: a later block may use what an earlier one has made."""
    session = {"__name__": "page"}
    for code in blocks("python", page):
        exec(compile(code, page.name, "exec"), session)
    assert capsys.readouterr().out or page.parent != ROOT


def test_there_is_python_to_run():
    assert blocks("python")


def test_the_set_up_is_two_commands():
    (block,) = blocks("sh")
    install, test = block.splitlines()
    assert install.startswith("python3 -m venv .venv && ")
    assert install.endswith(".venv/bin/attention-ref demo")
    assert test == ".venv/bin/python -m pytest -n auto"


def test_the_report_in_the_readme_is_the_one_that_its_code_prints(capsys):
    (code,) = (code for code in blocks("python") if "ar.check(" in code)
    exec(compile(code, "README.md", "exec"), {"__name__": "my_kernel"})
    printed = steady(capsys.readouterr().out)
    (shown,) = blocks("text")
    for part in shown.split("…"):
        assert steady(part) in printed


def steady(page):
    """The page in one line, without the seconds and the last bits that differ between machines."""
    return re.sub(r"seed 0, [\d.]+ s|agrees to \S+", "#", " ".join(page.split()))
