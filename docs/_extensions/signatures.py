"""The signature of a class is that of its constructor, without types, which the list of parameters has.

Estimators have a `__new__` that takes any arguments, and Sphinx would show its signature instead.
"""

import inspect
from typing import Any

from sphinx.application import Sphinx


def write_signature(
    app: Sphinx, what: str, name: str, cls: type, *rest: Any
) -> Any:
    if what != "class" or "__init__" not in vars(cls):
        return None
    _, *parameters = inspect.signature(cls.__init__).parameters.values()
    untyped = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in parameters
    ]
    return str(inspect.Signature(untyped)), None


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-signature", write_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
