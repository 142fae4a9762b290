"""The two GaussianMixture classes with the same parameter names, for tests of both."""

from typing import Any

import numpy as np
import torch

from sklearn_torch_gmm import GaussianMixture as TorchMixture
from sklearn_torch_gmm.mixture import GaussianMixture as DropIn
from tests.core.oracle import Mixture

MIXTURE_CLASSES = [TorchMixture, DropIn]
TYPES = ["full", "tied", "diag", "spherical"]

_TORCH_NAMES = {
    "start": "init_strategy",
    "starts": "num_init",
    "tolerance": "convergence_tolerance",
    "regularization": "covariance_regularization",
}
_DROP_IN_NAMES = {
    "start": "init_params",
    "starts": "n_init",
    "tolerance": "tol",
    "regularization": "reg_covar",
    "iterations": "max_iter",
}


def make(cls: type, components: int = 1, **params: Any) -> Any:
    """Return a mixture of either class.

    ``start``, ``starts``, ``tolerance``, ``regularization`` and ``iterations`` are translated into
    the names of the class; other parameters are passed on.
    """
    if cls is TorchMixture and "iterations" in params:
        params["trainer_params"] = {"max_epochs": params.pop("iterations")}
    names = _TORCH_NAMES if cls is TorchMixture else _DROP_IN_NAMES
    return cls(components, **{names.get(name, name): value for name, value in params.items()})


def fitted_mixture(estimator: Any) -> Mixture:
    """Return the parameters of a fitted mixture of either class in the form of the oracle."""
    covariances = torch.tensor(estimator.covariances_)
    matrices = estimator.model_.structure.matrices(covariances, *estimator.means_.shape)
    return Mixture(estimator.weights_, estimator.means_, matrices.numpy())


def assert_same_mixture(estimator: Any, expected: Mixture, tolerance: float = 1e-9) -> None:
    for actual, wanted in zip(fitted_mixture(estimator), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=tolerance, atol=tolerance)


def start_parameter(cls: type) -> str:
    return "init_strategy" if cls is TorchMixture else "init_params"


def expected_failed_checks(estimator: Any) -> dict[str, str]:
    """Checks that no estimator with random initialization passes, as scikit-learn's KMeans."""
    if estimator.n_clusters == 1:
        return {}
    reason = "samples that are repeated or removed are drawn with other random numbers"
    return {"check_sample_weight_equivalence_on_dense_data": reason}
