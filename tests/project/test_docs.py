"""Links and anchors lead somewhere, the API page and the catalog are complete, the Chinese README has the same code."""

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import attention_ref as ar
from attention_ref import mechanisms, ops, rules
from attention_ref.cli import catalog

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("notebooks/*.ipynb")])
LINK = re.compile(r"\]\(\s*([^)]*?)\s*\)|(?:href|src)=[\"']([^\"']*)[\"']")
CODE = re.compile(r"^(```+).*?^\1$|``.+?``|`[^`\n]+`", re.M | re.S)


def prose(path):
    """A page's Markdown; of a notebook, its text cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = [cell["source"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
    return "\n\n".join("".join(source) for source in cells)


def anchors(path):
    """What a link may name behind `#`: each heading, as web viewers write it."""
    out = []
    fenced = re.sub(r"^(```+).*?^\1$", "", prose(path), flags=re.M | re.S)
    for heading in re.findall(r"^#+ +(.*?) *$", fenced, re.M):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        out.append(f"{slug}-{out.count(slug)}" if slug in out else slug)
    return out


def broken(path):
    """The links of a page that lead nowhere, or, to other sites, cannot be right."""
    for found in LINK.finditer(CODE.sub("", prose(path))):
        target = found[1] if found[1] is not None else found[2]
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            if parts.scheme != "https" or "." not in parts.netloc or re.search(r"\s", target):
                yield target
            continue
        page = path.parent / parts.path if parts.path else path
        if not target or not page.exists() or (parts.fragment and parts.fragment not in anchors(page)):
            yield target


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_links_of_a_page_lead_somewhere(path):
    assert list(broken(path)) == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[a](other.md) [b](#a-title) [c](other.md#the-code-1) [d](https://numpy.org/doc)", []),
        ("[a](missing.md)", ["missing.md"]),
        ("![a](missing.png)", ["missing.png"]),
        ("[`a`](other.md#nowhere)", ["other.md#nowhere"]),
        ("[a](#nowhere)", ["#nowhere"]),
        ("[a]()", [""]),
        ("[a](http://numpy.org) [b](https://numpy)", ["http://numpy.org", "https://numpy"]),
        ('<img src="missing.png">', ["missing.png"]),
        ("`[a](missing.md)`\n\n```\n[a](missing.md)\n```", []),
    ],
)
@pytest.mark.parametrize("form", ["md", "ipynb"])
def test_the_reader_of_links_sees(tmp_path, text, wrong, form):
    (tmp_path / "other.md").write_text("# The code\n\n## The `code`\n")
    page, text = tmp_path / f"page.{form}", f"# A title\n\n{text}\n"
    cells = [{"cell_type": "markdown", "source": text.splitlines(keepends=True)}]
    page.write_text(text if form == "md" else json.dumps({"cells": cells}))
    assert list(broken(page)) == wrong


def test_the_api_page_is_complete():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\.\. (?:auto\w+|py:data):: (.*?)(?:\(\))?$", page, re.M)
    submodules = {"masks", "cache", "plot"}
    assert set(ar.__all__) - submodules <= set(shown)
    assert "attention_ref.plot" in shown
    masks = {name for name in ar.masks.__all__ if callable(getattr(ar.masks, name))} - {"as_mask"}
    assert {f"attention_ref::masks.{name}" for name in masks} <= set(shown)


def test_the_catalog_is_current():
    stored = (ROOT / "docs" / "catalog.md").read_text(encoding="utf-8")
    assert stored == catalog.markdown(), "run: attention-ref rules --markdown > docs/catalog.md"


def test_the_catalog_is_complete():
    page = catalog.markdown()
    shown = re.findall(r"^### `(.*)`$", page, re.M)
    stages = [name for name in ops if not name.startswith(("score.", "mechanism."))]
    assert shown == [*rules, *mechanisms, *stages]


def test_the_chinese_readme_has_the_same_code():
    """What a reader copies is the same, in the same order; comments are translated."""

    def code(name):
        text = (ROOT / name).read_text(encoding="utf-8")
        blocks = re.findall(r"^```(\w+)\n(.*?)^```", text, re.M | re.S)
        return [(language, re.sub(r" *#.*", "", block)) for language, block in blocks]

    assert code("README.md") == code("README.zh.md")
