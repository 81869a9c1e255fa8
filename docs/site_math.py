"""Formulas as MathML, which browsers draw by themselves: the pages need neither a script nor the network for them."""

from docutils.nodes import SkipNode
from latex2mathml.converter import convert
from sphinx.util import logging

LOG = logging.getLogger(__name__)


def setup(app):
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def inline(writer, node):
    writer.body.append(mathml(node, node.astext(), "inline"))
    raise SkipNode


def block(writer, node):
    r"""Equations with `,\;` between them stand one under the other: side by side they are wider than the page."""
    for equation in node.astext().split(r",\;"):
        writer.body.append(f'<div class="math">{mathml(node, equation, "block")}</div>')
    raise SkipNode


def mathml(node, latex, display):
    """The formula, or a warning that shows what is not known here."""
    try:
        found = convert(latex, display=display).replace(r"\_", "_")
    except Exception as error:
        found = f"\\{type(error).__name__}"
    if "\\" in found:
        LOG.warning("a formula that MathML does not have: %s", latex, location=node)
    return found
