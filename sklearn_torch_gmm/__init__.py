"""Gaussian mixtures for scikit-learn that run on PyTorch Lightning."""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sklearn_torch_gmm.core.model import GaussianMixtureModel, GaussianMixtureModelConfig

if TYPE_CHECKING:
    from sklearn_torch_gmm.criterion_display import CriterionDisplay
    from sklearn_torch_gmm.gaussian_mixture import GaussianMixture
    from sklearn_torch_gmm.model_selection import GaussianMixtureIC
    from sklearn_torch_gmm.plotting import MixtureDisplay

__version__ = "0.1.0"

__all__ = [
    "CriterionDisplay",
    "GaussianMixture",
    "GaussianMixtureIC",
    "GaussianMixtureModel",
    "GaussianMixtureModelConfig",
    "MixtureDisplay",
]

# The torch module needs no scikit-learn, and whoever loads it alone shall not wait for it.
_IMPORTED_WHEN_ASKED_FOR = {
    "CriterionDisplay": "sklearn_torch_gmm.criterion_display",
    "GaussianMixtureIC": "sklearn_torch_gmm.model_selection",
    "GaussianMixture": "sklearn_torch_gmm.gaussian_mixture",
    "MixtureDisplay": "sklearn_torch_gmm.plotting",
}


if not TYPE_CHECKING:
    # A checker that saw this function would take any name, misspelt or not, for one of the package.
    def __getattr__(name: str) -> Any:
        if name in _IMPORTED_WHEN_ASKED_FOR:
            return getattr(import_module(_IMPORTED_WHEN_ASKED_FOR[name]), name)
        msg = f"module {__name__!r} has no attribute {name!r}"
        # With these Python suggests a name that is spelled almost the same.
        raise AttributeError(msg, name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
