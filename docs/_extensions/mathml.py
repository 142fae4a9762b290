"""Formulas as MathML, written into the page while it is built.

Every current browser draws MathML by itself, so a page with formulas needs neither a script nor a
font, and looks the same without a network.
"""

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

# The name of a function, with its subscript, needs a space on both sides, which the converter leaves
# out; before a parenthesis it needs none.
_NAME = r"<m[io](?: [^>]*)?>(?:ARI|det|log|max|tr)</m[io]>"
_FUNCTIONS = re.compile(
    rf"(<msub>{_NAME}<m[in]>\w+</m[in]></msub>|(?<!<msub>){_NAME})(<mo [^>]*>&#x00028;)?"
)


def with_spaces(match: re.Match[str]) -> str:
    name, parenthesis = match.groups()
    space = '<mspace width="0.17em"/>'
    return space + name + (parenthesis or space)


def to_mathml(formula: str, display: str = "inline") -> str:
    return _FUNCTIONS.sub(with_spaces, convert(formula, display=display))


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
