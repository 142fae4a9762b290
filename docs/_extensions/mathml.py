"""Formulas as MathML, written into the page while it is built.

Every current browser draws MathML by itself, so a page with formulas needs neither a script nor a
font, and looks the same without a network.
"""

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

# The name of a function needs a space on both sides, which the converter leaves out.
_FUNCTIONS = re.compile(r"(<m[io]>(?:det|log|max|tr)</m[io]>)")


def to_mathml(formula: str, display: str = "inline") -> str:
    space = '<mspace width="0.17em"/>'
    mathml = convert(formula, display=display)
    return _FUNCTIONS.sub(rf"{space}\1{space}", mathml)


def write_inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(to_mathml(node.astext()))
    raise nodes.SkipNode


def write_block(translator: Any, node: nodes.math_block) -> None:
    formula = to_mathml(node.astext(), display="block")
    translator.body.append(f'<div class="formula">{formula}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer(
        "mathml", (write_inline, None), (write_block, None)
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
