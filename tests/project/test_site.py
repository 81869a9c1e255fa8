"""The site: it builds without a warning, shows every op and notebook, and needs nothing from the network."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

import attention_ref as ar

ROOT = Path(__file__).parents[2]
LOADED = re.compile(r"<(?:script|img|source|iframe)\b[^>]*?\bsrc=[\"']([^\"']+)|<link\b[^>]*?\bhref=[\"']([^\"']+)")
IMPORTED = re.compile(r"@import\s+[\"']([^\"']+)|url\([\"']?([^\"')]+)")
pytestmark = pytest.mark.docs


def build(source, settings, out):
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", settings, source, out]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("build") / "site"
    done = build(".", "docs", out)
    assert (done.returncode, done.stderr) == (0, "")
    return out


def remote(text, pattern):
    """What a page or a style sheet loads from elsewhere."""
    found = (next(filter(None, groups)) for groups in pattern.findall(text))
    return [target for target in found if re.match(r"(\w+:)?//", target)]


def test_every_op_has_its_picture_formula_and_code(site):
    page = (site / "docs" / "catalog.html").read_text(encoding="utf-8")
    names = [*(f"score.{name}" for name in ar.rules), *(name for name in ar.ops if not name.startswith("score."))]
    for name in names:
        assert f'src="../_images/{name}.png"' in page
        assert (site / "_images" / f"{name}.png").stat().st_size > 1000
    assert page.count("<details>") == page.count('class="signature') == len(names) <= page.count("<math")


def test_every_page_and_notebook_is_there(site):
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("notebooks/*.ipynb")):
        page = site / path.relative_to(ROOT).with_suffix(".html")
        assert "<h1" in page.read_text(encoding="utf-8"), page
        if path.suffix == ".ipynb":
            assert "<img" in page.read_text(encoding="utf-8"), page
    assert "README.html" in (site / "index.html").read_text()


def test_what_pages_link_to_is_there(site):
    missing = set()
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\b(?:href|src)=\"([^\"#?]+)", text):
            if not re.match(r"\w+:|//", target) and not (page.parent / unquote(target)).exists():
                missing.add((page.name, target))
    assert missing == set()


def test_a_reader_needs_no_network(site):
    for pattern, glob in ((LOADED, "*.html"), (IMPORTED, "*.css")):
        for path in site.rglob(glob):
            assert remote(path.read_text(encoding="utf-8"), pattern) == [], path


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ('<script async src="https://cdn.example.org/a.js">', LOADED),
        ('<link rel="stylesheet" href="//cdn.example.org/a.css">', LOADED),
        ('@import "https://cdn.example.org/a.css"', IMPORTED),
        ("src: url(https://cdn.example.org/a.woff2)", IMPORTED),
    ],
)
def test_the_reader_of_pages_sees(text, pattern):
    assert len(remote(text, pattern)) == 1


WRONG = {r"$\nosuchcommand{s}$": "nosuchcommand", r"$\frac$": r"\frac", "[nowhere](nowhere.md)": "nowhere.md"}


def test_what_is_wrong_in_a_page_is_seen(tmp_path):
    source, settings = tmp_path / "source", tmp_path / "settings"
    source.mkdir(), settings.mkdir()
    (source / "index.md").write_text("# A page\n\n" + "\n\n".join(WRONG))
    lines = [
        f"import sys\nsys.path.insert(0, {str(ROOT / 'docs')!r})",
        'extensions, myst_enable_extensions = ["myst_nb", "site_math"], ["dollarmath"]',
        'html_math_renderer = "mathml"',
    ]
    (settings / "conf.py").write_text("\n".join(lines))
    done = build(source, settings, tmp_path / "out")
    assert done.returncode
    for text, said in WRONG.items():
        assert said in done.stderr, text
