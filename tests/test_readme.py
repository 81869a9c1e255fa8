"""The README: its Python runs as printed, and its set-up is two commands."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs_as_printed(code, capsys):
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_there_is_python_to_run():
    assert blocks("python")


def test_the_set_up_is_two_commands():
    (block,) = blocks("sh")
    install, test = block.splitlines()
    assert install.startswith("python3 -m venv .venv && ")
    assert install.endswith(".venv/bin/attention-ref demo")
    assert test == ".venv/bin/python -m pytest -n auto"


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (Path(__file__).parents[1] / target).exists(), target
