"""Both faces under one vocabulary, for what they are to share."""

from typing import Any

import numpy as np
import torch

from sklearn_torch_gmm import GaussianMixture as Documented
from sklearn_torch_gmm.mixture import GaussianMixture as DropIn
from tests.core.oracle import Mixture

FACES = [Documented, DropIn]
TYPES = ["full", "tied", "diag", "spherical"]

_DOCUMENTED_NAMES = {
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


def make(face: type, components: int = 1, **params: Any) -> Any:
    """A mixture of either face.

    ``start``, ``starts``, ``tolerance``, ``regularization`` and ``iterations`` stand for what the
    face calls them; all else is handed on.
    """
    if face is Documented and "iterations" in params:
        params["trainer_params"] = {"max_epochs": params.pop("iterations")}
    names = _DOCUMENTED_NAMES if face is Documented else _DROP_IN_NAMES
    return face(components, **{names.get(name, name): value for name, value in params.items()})


def fitted_mixture(estimator: Any) -> Mixture:
    """What a fitted mixture of either face is, in the oracle's terms."""
    covariances = torch.tensor(estimator.covariances_)
    matrices = estimator.model_.structure.matrices(covariances, *estimator.means_.shape)
    return Mixture(estimator.weights_, estimator.means_, matrices.numpy())


def assert_same_mixture(estimator: Any, expected: Mixture, tolerance: float = 1e-9) -> None:
    for actual, wanted in zip(fitted_mixture(estimator), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=tolerance, atol=tolerance)


def start_parameter(face: type) -> str:
    return "init_strategy" if face is Documented else "init_params"


def expected_failed_checks(estimator: Any) -> dict[str, str]:
    """What no estimator can do that starts at random; scikit-learn lists it for its own KMeans."""
    if estimator.n_clusters == 1:
        return {}
    reason = "rows that are repeated or removed are drawn with other random numbers"
    return {"check_sample_weight_equivalence_on_dense_data": reason}
