"""What a page of the site has beyond its file: the front page's contents, the catalog's pictures and code."""

import re
import warnings
from pathlib import Path

from matplotlib.figure import Figure

import attention_ref as ar

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "build" / "pictures"
SIZES = {"i": 6, "j": 8, "t": 6}
LEADING = (("example", 5), ("sequence", 7))
CONTENTS = """
```{toctree}
:hidden:
:caption: Use it
Overview <self>
docs/api
docs/catalog
docs/heatmaps
docs/reading-a-report
docs/what-does-a-score-mean
docs/which-conventions-does-my-library-use
docs/check-your-kernel-in-any-language
docs/subprocess-protocol
docs/accuracy
CONFORMANCE
```

```{toctree}
:hidden:
:caption: Learn
:glob:
notebooks/*
```

```{toctree}
:hidden:
:caption: Project
CONTRIBUTING
CHANGELOG
中文说明 <README.zh>
```
"""
CODE = """Source: {source}.

![{alt}](/build/pictures/{file})

<details><summary>The code: {path}</summary>

```{{literalinclude}} /{path}
:language: python
```

</details>
"""


def setup(app):
    app.connect("builder-inited", draw_all)
    app.connect("source-read", complete)
    app.connect("build-finished", start_at_the_readme)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def complete(app, name, source):
    """The page as the site shows it; a link to a folder, which is no page, becomes its text."""
    folder = Path(app.env.doc2path(name)).parent
    if not name.startswith("notebooks/"):
        source[0] = re.sub(r"\[([^\]]+)\]\(([\w./]+)\)", lambda link: without_folder(link, folder), source[0])
    if name == "README":
        source[0] += CONTENTS
    if name == "docs/catalog":
        entry = r"^Source: (.*?)\. Code: \[(attention_ref/(\w+)/(\w+)\.py)\]\(.*$"
        page = re.sub(entry, with_picture, source[0], flags=re.M)
        source[0] = page.replace("```text\n", "```{code-block} text\n:class: signature\n\n")


def without_folder(link, folder):
    return link[1] if (folder / link[2]).is_dir() else link[0]


def with_picture(entry):
    source, path, room, name = entry.groups()
    return CODE.format(source=source, path=path, file=f"{room}.{name}.png", alt=f"{name} on random inputs")


def draw_all(app):
    """A picture of every rule and op, on the inputs of its own example."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    ops = {**ar.ops, **{f"score.{name}": rule for name, rule in ar.rules.items()}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, op in ops.items():
            ar.plot.save(picture(op), PICTURES / f"{name}.png", dpi=80)


def picture(op):
    """The weights; or the first result, beside the first argument if that has the same shape."""
    results = {argument.name: argument for argument in op.signature.results}
    name = "alpha" if "alpha" in results else next(iter(results))
    letters = [axis.text for axis in results[name].axes]
    leading = LEADING[: max(0, 2 - len(letters))]
    sizes = {letter: size for letter, size in SIZES.items() if letter in op.signature.prime_sizes()}
    inputs = op.example(seed=0, leading=[size for _, size in leading], **sizes)
    value, tape = op.forward(**inputs)
    attended = None if "alpha" in results else next(within(tape), None)
    if attended:
        return drawn({"alpha": attended.alpha}, ["query", "key"])
    panels = {name: dict(zip(results, value if isinstance(value, tuple) else (value,), strict=True))[name]}
    first = next(iter(op.arguments))
    if not isinstance(op, ar.Rule) and inputs[first].shape == panels[name].shape:
        panels = {first: inputs[first]} | panels
    return drawn(panels, [*(axis for axis, _ in leading), *letters][-2:])


def within(tape):
    """What attention returned inside a mechanism, from the outermost tape on."""
    if isinstance(tape, ar.Attended):
        yield tape
    elif isinstance(tape, (dict, list, tuple)):
        for part in tape.values() if isinstance(tape, dict) else tape:
            yield from within(part)


def drawn(panels, axes):
    """Heatmaps side by side, of the first matrix of each array."""
    figure = Figure(figsize=(3.6 * len(panels), 2.9), layout="constrained")
    weights = list(panels)[-1] == "alpha"
    for ax, (name, x) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        matrix, options = x.reshape(-1, *x.shape[-2:])[0], {"ax": ax, "legend": False, "cbar_label": name}
        if weights and name == "alpha":
            ar.plot.heatmap(matrix, check_rows="ignore", **options)
        else:
            ar.plot.gradient(matrix, **options)
        ax.set(xlabel=axes[1], ylabel=axes[0], title=name)
    return figure


def start_at_the_readme(app, error):
    """README.html is the front page; a browser that opens the folder finds it."""
    if error is None:
        page = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=README.html">\n'
        (Path(app.outdir) / "index.html").write_text(page, encoding="utf-8")
