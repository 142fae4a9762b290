"""The fitted attributes: how a result becomes them, and what else they can be turned into."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sklearn_torch_gmm._estimator.answers import inference_of
from sklearn_torch_gmm._estimator.fit_data import FitData
from sklearn_torch_gmm._estimator.outcome import check_representable
from sklearn_torch_gmm._estimator.validation import rows_of
from sklearn_torch_gmm.core.covariance import get_structure
from sklearn_torch_gmm.core.fixed import PARTS
from sklearn_torch_gmm.core.model import GaussianMixtureModel, GaussianMixtureModelConfig
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.em.results import FitResult
from sklearn_torch_gmm.em.settings import FitSettings
from sklearn_torch_gmm.rows.kinds import is_read_in_pieces
from sklearn_torch_gmm.rows.tensors import as_tensor


def keep_result(
    mixture: BaseEstimator, result: FitResult, settings: FitSettings, data: FitData
) -> None:
    """Set all fitted attributes to what a fit has led to."""
    X = data.X
    set_parameters(mixture, result.parameters, data.dtype)
    remember_known_parts(mixture, settings, goes_on=settings.start.previous is not None)
    mixture.n_samples_seen_ = data.total_weight
    mixture.converged_ = result.converged
    mixture.lower_bounds_ = result.lower_bounds
    mixture.n_iter_ = len(result.lower_bounds)
    mixture.lower_bound_ = result.lower_bounds[-1] if result.lower_bounds else -math.inf
    if not is_read_in_pieces(X):
        mixture.labels_ = inference_of(mixture).labels(rows_of(X)).cpu().numpy()
    elif isinstance(X, np.ndarray):
        mixture.labels_ = mixture.predict(X)
    else:
        # Labels of a stream that were kept would be as large as what did not fit.
        mixture.__dict__.pop("labels_", None)


def set_parameters(mixture: BaseEstimator, parameters: MixtureParameters, dtype: Any) -> None:
    """Set weights, means, covariances and their factors to those of the first mixture.

    Raises
    ------
    UnrepresentableParameterError
        If ``dtype`` cannot hold a variance.
    """
    structure, sizes = get_structure(mixture.covariance_type), parameters.means.shape[-2:]
    check_representable(structure.variances(parameters.covariances[0], *sizes), dtype)

    def array(values: Tensor) -> np.ndarray[Any, Any]:
        # What an M-step returns may have the components along the last axis of memory.
        return values.numpy().astype(dtype, order="C")

    mixture.weights_ = array(parameters.weights[0])
    mixture.means_ = array(parameters.means[0])
    mixture.covariances_ = array(parameters.covariances[0])
    mixture.precisions_cholesky_ = array(parameters.precisions_cholesky[0])


def remember_known_parts(mixture: BaseEstimator, settings: FitSettings, *, goes_on: bool) -> None:
    """Set `known_parts_` to the fixed parts that the user gave."""
    given = getattr(mixture, "known_parts_", ()) if goes_on else settings.start.given_parts
    mixture.known_parts_ = [p for p in PARTS if p in given and p in settings.fixed]


def fitted_parameters(mixture: BaseEstimator) -> MixtureParameters:
    """Return the fitted attributes as tensors in float64, of one mixture."""
    arrays = (
        mixture.weights_,
        mixture.means_,
        mixture.covariances_,
        mixture.precisions_cholesky_,
    )
    return MixtureParameters(*(as_tensor(a).double().unsqueeze(0) for a in arrays))


def precisions_of(mixture: BaseEstimator) -> npt.NDArray[Any]:
    """Return the inverse covariances, in the shape of `covariances_`."""
    check_is_fitted(mixture)
    factors = mixture.precisions_cholesky_
    structure = get_structure(mixture.covariance_type)
    precisions = structure.precisions(as_tensor(factors).double())
    return precisions.numpy().astype(factors.dtype)


def factors_of(mixture: BaseEstimator, precisions: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return `precisions_cholesky_` for precisions in the shape of `covariances_`."""
    precisions = np.asarray(precisions)
    structure = get_structure(mixture.covariance_type)
    factors = structure.precisions_cholesky_from_precisions(as_tensor(precisions).double())
    return factors.numpy().astype(precisions.dtype)


def torch_model(mixture: BaseEstimator) -> GaussianMixtureModel:
    """Return the fitted mixture as a new torch module on the CPU."""
    check_is_fitted(mixture)
    components, features = mixture.means_.shape
    config = GaussianMixtureModelConfig(components, features, mixture.covariance_type)
    dtype = as_tensor(mixture.means_[:0]).dtype
    with torch.device("cpu"):
        model = GaussianMixtureModel(
            config, dtype=dtype if dtype.is_floating_point else torch.float64
        )
    model.component_probs.copy_(as_tensor(mixture.weights_))
    model.means.copy_(as_tensor(mixture.means_))
    model.precisions_cholesky.copy_(as_tensor(mixture.precisions_cholesky_))
    return model
