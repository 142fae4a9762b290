"""Gaussian mixture models with scikit-learn's interface, on PyTorch and Lightning."""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sklearn_torch_gmm.core.imports import without_collections

with without_collections():
    from sklearn_torch_gmm.core.model import GaussianMixtureModel, GaussianMixtureModelConfig

if TYPE_CHECKING:
    from sklearn_torch_gmm.classifier import GaussianMixtureClassifier
    from sklearn_torch_gmm.convergence_display import ConvergenceDisplay
    from sklearn_torch_gmm.criterion_display import CriterionDisplay
    from sklearn_torch_gmm.gaussian_mixture import GaussianMixture
    from sklearn_torch_gmm.model_selection import GaussianMixtureIC
    from sklearn_torch_gmm.pair_display import PairDisplay
    from sklearn_torch_gmm.plotting import MixtureDisplay
    from sklearn_torch_gmm.responsibility_display import ResponsibilityDisplay

__version__ = "0.1.0"

__all__ = [
    "ConvergenceDisplay",
    "CriterionDisplay",
    "GaussianMixture",
    "GaussianMixtureClassifier",
    "GaussianMixtureIC",
    "GaussianMixtureModel",
    "GaussianMixtureModelConfig",
    "MixtureDisplay",
    "PairDisplay",
    "ResponsibilityDisplay",
]

# The torch module does not need scikit-learn: users who load only the module do not wait for it.
_LAZY_IMPORTS = {
    "ConvergenceDisplay": "sklearn_torch_gmm.convergence_display",
    "CriterionDisplay": "sklearn_torch_gmm.criterion_display",
    "GaussianMixtureClassifier": "sklearn_torch_gmm.classifier",
    "GaussianMixtureIC": "sklearn_torch_gmm.model_selection",
    "GaussianMixture": "sklearn_torch_gmm.gaussian_mixture",
    "MixtureDisplay": "sklearn_torch_gmm.plotting",
    "PairDisplay": "sklearn_torch_gmm.pair_display",
    "ResponsibilityDisplay": "sklearn_torch_gmm.responsibility_display",
}

_ELSEWHERE = {
    "BayesianGaussianMixture": ": it is in sklearn_torch_gmm.mixture",
    "GaussianMixtureImputer": ": it is in sklearn_torch_gmm.impute",
    "KMeans": ": use sklearn.cluster.KMeans",
    "set_logging_level": ": leave it out, a fit logs nothing",
}
"""Where to find names that users of scikit-learn, PyCave and torchgmm may look for here."""


if not TYPE_CHECKING:
    # A type checker that saw this function would accept any name, misspelt ones included.
    def __getattr__(name: str) -> Any:
        if name in _LAZY_IMPORTS:
            return getattr(import_module(_LAZY_IMPORTS[name]), name)
        # Not an ImportError, which `from sklearn_torch_gmm import ...` would show whole: `hasattr`
        # would raise it.
        msg = f"module {__name__!r} has no attribute {name!r}{_ELSEWHERE.get(name, '')}"
        # Python needs both arguments to suggest a name with a similar spelling.
        raise AttributeError(msg, name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
