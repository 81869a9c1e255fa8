"""The Chinese README says the same in code, its links lead somewhere, and the catalog is current."""

import re
from pathlib import Path

import pytest

from attention_ref import catalog, mechanisms, ops, rules

ROOT = Path(__file__).parent.parent
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "README.zh.md"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_links_of_a_page_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            assert (path.parent / link).exists(), link


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
