"""Stepwise EM: a fit that takes a batch at a time."""

from __future__ import annotations

from numbers import Real
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from torch.utils.data import DataLoader, Dataset

from sklearn_torch_gmm._estimator.fitted_state import (
    fitted_parameters,
    remember_known_parts,
    set_parameters,
)
from sklearn_torch_gmm._estimator.outcome import as_before_on_failure, warn_of_empty
from sklearn_torch_gmm._estimator.validation import numpy_dtype, validate_rows
from sklearn_torch_gmm._estimator.vocabulary import settings_of, starts_from_array
from sklearn_torch_gmm._private_parts import validate_parameters
from sklearn_torch_gmm.core.counts import is_number
from sklearn_torch_gmm.core.covariance import get_structure
from sklearn_torch_gmm.em.failures import check_number_of_rows
from sklearn_torch_gmm.em.partial_fit import update_mixture
from sklearn_torch_gmm.rows.in_memory import ArrayRows
from sklearn_torch_gmm.rows.sample_weight import total_weight, weighted_rows


def update_with_batch(
    mixture: BaseEstimator, X: Any, sample_weight: Any, step_exponent: float
) -> None:
    """Move the fitted attributes towards a batch, as `partial_fit` documents it."""
    validate_parameters(mixture)
    if not is_number(step_exponent, Real) or not 0.5 < step_exponent <= 1.0:
        msg = f"step_exponent must be in (0.5, 1], got {step_exponent!r}."
        raise ValueError(msg)
    if isinstance(X, (Dataset, DataLoader)):
        msg = (
            "partial_fit takes a batch of rows, an array or a tensor, got a "
            f"{type(X).__name__}: pass its batches one by one, or call fit."
        )
        raise TypeError(msg)
    is_first = not hasattr(mixture, "means_")
    with as_before_on_failure(mixture):
        X = validate_rows(mixture, X, reset=is_first)
        keep_all = is_first and starts_from_array(mixture)
        rows = ArrayRows(*weighted_rows(X, sample_weight, keep_all=keep_all))
        if is_first:
            check_number_of_rows(rows.num_rows, mixture.n_clusters, mixture._vocabulary.components)
        else:
            _check_can_go_on(mixture)
        settings = settings_of(mixture, rows.num_features, check_random_state(mixture.random_state))
        weight = total_weight(sample_weight, X.shape[0])
        # A mixture whose parameters were given has seen nothing: it is a start.
        seen = 0.0 if is_first else getattr(mixture, "n_samples_seen_", 0.0)
        result = update_mixture(
            rows,
            settings,
            None if is_first else fitted_parameters(mixture),
            (weight / (seen + weight)) ** step_exponent,
        )
        warn_of_empty(result.empty, settings.fixed, stacklevel=4)
        dtype = numpy_dtype(X) if is_first else mixture.means_.dtype
        set_parameters(mixture, result.parameters, dtype)
        remember_known_parts(mixture, settings, goes_on=not is_first)
        mixture.n_samples_seen_ = seen + weight
        mixture.n_iter_ = 1 if is_first else getattr(mixture, "n_iter_", 0) + 1
        mixture.converged_ = False
        mixture.lower_bound_ = result.lower_bounds[-1]
        # No iteration over all of the data: a later one has none to be compared with.
        mixture.lower_bounds_ = []
        # The labels of earlier rows are those of earlier parameters.
        mixture.__dict__.pop("labels_", None)


def _check_can_go_on(mixture: BaseEstimator) -> None:
    """Raise ValueError if the parameters were set to something else after the fit."""
    name, components = mixture._vocabulary.components, mixture.n_clusters
    wanted = get_structure(mixture.covariance_type).covariance_shape(
        components, mixture.means_.shape[1]
    )
    if mixture.means_.shape[0] != components or mixture.covariances_.shape != wanted:
        msg = (
            f"partial_fit goes on from means of shape {mixture.means_.shape} and covariances of "
            f"shape {mixture.covariances_.shape}, but {name}={components} "
            f"and covariance_type={mixture.covariance_type!r} want covariances of shape {wanted}. "
            "Set them back, or call fit to start anew."
        )
        raise ValueError(msg)
