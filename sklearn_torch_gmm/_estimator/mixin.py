"""The mixin of all estimators: hints, tags, pickles and links to the documentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from sklearn.utils import Tags

from sklearn_torch_gmm._estimator.missing import takes_gaps
from sklearn_torch_gmm._estimator.spelling import check_names
from sklearn_torch_gmm._saving import pickling

if TYPE_CHECKING:
    from typing_extensions import Self


class PackageEstimatorMixin:
    """Adds hints for parameters, tags, pickles with the package's version, documentation links."""

    _inspected: ClassVar[tuple[Callable[..., None], list[str]]]
    """The constructor, and the names of its parameters."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        check_names(cls, kwargs)
        return super().__new__(cls)

    @classmethod
    def _get_param_names(cls) -> list[str]:
        # scikit-learn inspects the constructor in each clone: a thirtieth of a small search.
        inspected = vars(cls).get("_inspected")
        if inspected is None or inspected[0] is not cls.__init__:
            inspected = cls.__init__, super()._get_param_names()  # type: ignore[misc]
            cls._inspected = inspected
        return list(inspected[1])

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.allow_nan = takes_gaps(self)
        return tags

    __getstate__ = pickling.get_state
    __setstate__ = pickling.set_state
    # scikit-learn's HTML representation makes the link from these three.
    _doc_link_module = "sklearn_torch_gmm"
    _doc_link_template = "https://sklearn-torch-gmm.readthedocs.io/en/latest/api/{page}.html"

    def _doc_link_url_param_generator(self) -> dict[str, str]:
        return {"page": f"{type(self).__module__}.{type(self).__name__}"}
