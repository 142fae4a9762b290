"""Colours for the signs of outcomes in tables; the style sheet has one for each class."""

import re

from docutils import nodes
from sphinx.application import Sphinx

_CLASSES = {"✓": "good", "○": "told", "△": "failed", "✗": "wrong"}
_SIGNS = re.compile(f"([{''.join(_CLASSES)}])")


def mark_signs(app: Sphinx, document: nodes.document) -> None:
    texts = [
        text
        for entry in document.findall(nodes.entry)
        for text in entry.findall(nodes.Text)
    ]
    for text in texts:
        parts = [
            nodes.inline(part, part, classes=["outcome-" + _CLASSES[part]])
            if part in _CLASSES
            else nodes.Text(part)
            for part in _SIGNS.split(text)
            if part
        ]
        if len(parts) > 1:
            text.parent.replace(text, parts)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", mark_signs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
