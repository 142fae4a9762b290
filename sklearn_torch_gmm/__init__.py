"""Gaussian mixtures for scikit-learn that run on PyTorch Lightning."""

from typing import TYPE_CHECKING, Any

from sklearn_torch_gmm.core.model import GaussianMixtureModel, GaussianMixtureModelConfig

if TYPE_CHECKING:
    from sklearn_torch_gmm.gaussian_mixture import GaussianMixture

__version__ = "0.1.0"

__all__ = ["GaussianMixture", "GaussianMixtureModel", "GaussianMixtureModelConfig"]


def __getattr__(name: str) -> Any:
    # The torch module needs no scikit-learn, and whoever loads it alone shall not wait for it.
    if name == "GaussianMixture":
        from sklearn_torch_gmm.gaussian_mixture import GaussianMixture

        return GaussianMixture
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
