"""Conversion of the parameters and fitted attributes of a Bayesian mixture from and to tensors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from torch import Tensor

from sklearn_torch_gmm._estimator import fitted_state
from sklearn_torch_gmm._estimator.starting_values import check_positive_definite, check_shape
from sklearn_torch_gmm.core.covariance import CovarianceStructure, get_structure
from sklearn_torch_gmm.core.posterior import (
    PosteriorParameters,
    PriorParameters,
    Wishart,
    expected_log_weights,
    second_moments_of_prior,
)
from sklearn_torch_gmm.core.weight_priors import WEIGHT_PRIORS
from sklearn_torch_gmm.em.variational import Prior
from sklearn_torch_gmm.rows.checks import check_floats
from sklearn_torch_gmm.rows.tensors import as_tensor

ATTRIBUTES = (
    "weight_concentration_",
    "mean_precision_",
    "degrees_of_freedom_",
    "weight_concentration_prior_",
    "mean_precision_prior_",
    "mean_prior_",
    "degrees_of_freedom_prior_",
    "covariance_prior_",
)
"""Fitted attributes of a Bayesian mixture in addition to those of every mixture."""


def prior_from(mixture: BaseEstimator, num_features: int) -> Prior:
    """Return the prior that the parameters of a mixture describe.

    Raises
    ------
    ValueError
        If a parameter does not match the data, with scikit-learn's messages.
    """
    concentration, precision = (
        mixture.weight_concentration_prior,
        mixture.mean_precision_prior,
    )
    mean = mixture.mean_prior
    if mean is not None:
        mean = check_floats(mean, "mean_prior")
        check_shape(mean, (num_features,), "means")
        mean = as_tensor(mean).double()
    degrees = mixture.degrees_of_freedom_prior
    if degrees is not None and not degrees > num_features - 1.0:
        msg = (
            "The parameter 'degrees_of_freedom_prior' should be greater than "
            f"{num_features - 1}, but got {degrees:.3f}."
        )
        raise ValueError(msg)
    covariance = mixture.covariance_prior
    if covariance is not None:
        structure = get_structure(mixture.covariance_type)
        covariance = _covariance_prior(covariance, structure, num_features)
    return Prior(
        WEIGHT_PRIORS[mixture.weight_concentration_prior_type],
        1.0 / mixture.n_components if concentration is None else float(concentration),
        1.0 if precision is None else float(precision),
        float(num_features) if degrees is None else float(degrees),
        mean,
        covariance,
    )


def _covariance_prior(values: Any, structure: CovarianceStructure, num_features: int) -> Tensor:
    """Return the scale of the prior in the shape of the covariances of one component."""
    checked = check_floats(values, "covariance_prior", allow_nd=True, ensure_min_samples=0)
    if shape_of_one(structure, num_features) == () and checked.size == 1:
        # For 'spherical' it is a number, or an array of one number.
        checked = checked.reshape(())
    shape = structure.covariance_shape(1, num_features)
    # A covariance per component is given without the axis of the components.
    check_shape(
        checked, shape_of_one(structure, num_features), f"{structure.name} covariance_prior"
    )
    checked = checked.reshape(shape)
    return as_tensor(
        check_positive_definite(checked, 1, num_features, structure, f"{structure.name} precision")
    ).double()


def shape_of_one(structure: CovarianceStructure, num_features: int) -> tuple[int, ...]:
    """Return the shape of `covariance_prior_`."""
    shape = structure.covariance_shape(1, num_features)
    return shape if structure.is_shared else shape[1:]


def set_parameters(mixture: BaseEstimator, parameters: PosteriorParameters, dtype: Any) -> None:
    """Set the fitted attributes from a batch of one posterior.

    UnrepresentableParameterError is raised if ``dtype`` cannot hold a variance.
    """
    fitted_state.set_parameters(mixture, parameters, dtype)

    def array(values: Tensor) -> Any:
        return values.numpy().astype(dtype, order="C")

    structure, num_features = get_structure(mixture.covariance_type), parameters.means.shape[-1]
    concentrations = tuple(map(array, parameters.concentrations[0]))
    mixture.weight_concentration_ = concentrations if len(concentrations) > 1 else concentrations[0]
    mixture.mean_precision_ = array(parameters.mean_precisions[0])
    degrees = array(parameters.degrees_of_freedom[0])
    mixture.degrees_of_freedom_ = degrees[0] if structure.is_shared else degrees
    prior = parameters.prior
    mixture.weight_concentration_prior_ = prior.weight_concentration
    mixture.mean_precision_prior_ = prior.mean_precision
    is_default = mixture.degrees_of_freedom_prior is None
    mixture.degrees_of_freedom_prior_ = num_features if is_default else prior.degrees_of_freedom
    mixture.mean_prior_ = array(prior.mean)
    scale = array(prior.covariance)
    mixture.covariance_prior_ = scale.reshape(shape_of_one(structure, num_features))[()]


def fitted_parameters(mixture: BaseEstimator) -> PosteriorParameters:
    """Return the fitted attributes as float64 tensors, a batch of one posterior."""
    known = fitted_state.fitted_parameters(mixture)
    structure = get_structure(mixture.covariance_type)
    components, num_features = known.means.shape[-2:]
    scale = _double(mixture.covariance_prior_)
    scale = scale.reshape(structure.covariance_shape(1, num_features))
    concentrations, mean_precisions, degrees = _counts_of(mixture)
    return PosteriorParameters(
        weights=known.weights,
        means=known.means,
        covariances=known.covariances,
        precisions_cholesky=known.precisions_cholesky,
        concentrations=concentrations[None],
        mean_precisions=mean_precisions[None],
        degrees_of_freedom=degrees[None],
        prior=PriorParameters(
            weight_concentration=float(mixture.weight_concentration_prior_),
            mean_precision=float(mixture.mean_precision_prior_),
            degrees_of_freedom=float(mixture.degrees_of_freedom_prior_),
            mean=_double(mixture.mean_prior_),
            covariance=scale,
            second=second_moments_of_prior(scale, structure, components, num_features),
            unit=1.0,
            # A fit that continues from these parameters has rows of its own.
            bound_constant=math.nan,
        ),
    )


def log_weights_of(mixture: BaseEstimator) -> Tensor:
    """Return the expected log-weights of the components, ``[K]``, in nats."""
    concentrations, mean_precisions, degrees = _counts_of(mixture)
    wishart = Wishart.of(degrees, mixture.means_.shape[-1])
    return expected_log_weights(concentrations, mean_precisions, wishart)


def _counts_of(mixture: BaseEstimator) -> tuple[Tensor, Tensor, Tensor]:
    """Return concentrations ``[1 or 2, K]``, mean precisions and degrees of freedom ``[K]``."""
    concentrations = _double(np.atleast_2d(np.stack(mixture.weight_concentration_)))
    mean_precisions = _double(mixture.mean_precision_)
    degrees = _double(mixture.degrees_of_freedom_).expand_as(mean_precisions)
    return concentrations, mean_precisions, degrees


def _double(values: Any) -> Tensor:
    return as_tensor(np.asarray(values)).double()
