"""Links from inherited methods to their source, too.

`sphinx.ext.viewcode` looks for `GaussianMixture.save` in the module that the method was written in,
where it has the name of the base class. Here it finds it under both names.
"""

import inspect
import re
from importlib import import_module
from typing import Any

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

_PUBLIC = (
    "sklearn_torch_gmm",
    "sklearn_torch_gmm.mixture",
    "sklearn_torch_gmm.impute",
)
_LINK_BACK = re.compile(r'<a class="viewcode-back".*?</a>')


def _public_classes() -> list[type]:
    modules = [import_module(name) for name in _PUBLIC]
    return [
        value
        for module in modules
        for name in module.__all__
        if inspect.isclass(value := getattr(module, name))
    ]


def _function_of(member: Any) -> Any:
    return getattr(member, "fget", None) or getattr(member, "__func__", member)


def find_source(
    app: Sphinx, module: str
) -> tuple[str, dict[str, tuple[str, int, int]]] | None:
    if not module.startswith("sklearn_torch_gmm"):
        return None
    analyzer = ModuleAnalyzer.for_module(module)
    analyzer.find_tags()
    tags = dict(analyzer.tags)
    for cls in _public_classes():
        for name in dir(cls):
            function = _function_of(inspect.getattr_static(cls, name))
            written_as = getattr(function, "__qualname__", None)
            is_here = getattr(function, "__module__", None) == module
            if is_here and written_as in analyzer.tags:
                inherited = f"{cls.__name__}.{name}"
                tags.setdefault(inherited, analyzer.tags[written_as])
    return analyzer.code, tags


def leave_out_links_back(
    app: Sphinx, page: str, template: str, context: dict[str, Any], *rest: Any
) -> None:
    """A method that many classes inherit has no single page that its source could link to."""
    if page.startswith("_modules/sklearn_torch_gmm/_"):
        context["body"] = _LINK_BACK.sub("", context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    app.setup_extension("sphinx.ext.viewcode")
    app.connect("viewcode-find-source", find_source)
    app.connect("html-page-context", leave_out_links_back)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
