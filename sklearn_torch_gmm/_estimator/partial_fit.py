"""Stepwise EM: an update of the fitted parameters by one batch."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sklearn_torch_gmm._estimator.fitted_state import (
    check_can_continue,
    fitted_parameters,
    remember_estimation,
    set_parameters,
)
from sklearn_torch_gmm._estimator.outcome import as_before_on_failure, warn_of_empty
from sklearn_torch_gmm._estimator.size import check_size
from sklearn_torch_gmm._estimator.validation import numpy_dtype, validate_rows
from sklearn_torch_gmm._estimator.vocabulary import num_components_of, settings_of
from sklearn_torch_gmm._private_parts import validate_parameters
from sklearn_torch_gmm.core.counts import is_number
from sklearn_torch_gmm.em.failures import check_number_of_rows
from sklearn_torch_gmm.em.partial_fit import update_mixture
from sklearn_torch_gmm.rows.in_memory import ArrayRows
from sklearn_torch_gmm.rows.random_numbers import RandomNumbers
from sklearn_torch_gmm.rows.sample_weight import sum_of_weights, weighted_rows
from sklearn_torch_gmm.rows.tensors import as_tensor


def update_with_batch(
    mixture: BaseEstimator, X: Any, sample_weight: Any, step_exponent: float
) -> None:
    """Update the fitted attributes by a batch, as documented in `partial_fit`."""
    validate_parameters(mixture)
    if not is_number(step_exponent, Real) or not 0.5 < step_exponent <= 1.0:
        msg = f"step_exponent must be in (0.5, 1], got {step_exponent!r}."
        raise ValueError(msg)
    if isinstance(X, (Dataset, DataLoader)):
        msg = (
            "partial_fit takes one batch, an array or a tensor, got a "
            f"{type(X).__name__}: pass its batches one by one, or call fit."
        )
        raise TypeError(msg)
    is_first = not hasattr(mixture, "means_")
    name, components = mixture._vocabulary.components, num_components_of(mixture)
    with as_before_on_failure(mixture):
        X = validate_rows(mixture, X, reset=is_first)
        rows = ArrayRows(*weighted_rows(X, sample_weight))
        if is_first:
            check_number_of_rows(rows.num_rows, components, name)
        else:
            check_can_continue(
                mixture,
                (components, mixture.means_.shape[1]),
                "partial_fit",
                f"{name}={components}",
                "Set them back, or call fit to start again.",
            )
        random = RandomNumbers(mixture.random_state)
        settings = settings_of(
            mixture, rows.num_features, random, sample_weight if is_first else None
        )
        check_size([settings], None, rows.num_features)
        weight = float(len(X)) if sample_weight is None else sum_of_weights(sample_weight)
        seen = 0.0 if is_first else _weight_seen(mixture)
        result = update_mixture(
            rows,
            settings,
            None if is_first else fitted_parameters(mixture),
            (weight / (seen + weight)) ** step_exponent,
            None if is_first else _included_regularization(mixture),
        )
        warn_of_empty(result.empty, settings.fixed)
        dtype = numpy_dtype(X) if is_first else mixture.means_.dtype
        set_parameters(mixture, result.parameters, dtype)
        remember_estimation(mixture, settings, continues=not is_first)
        mixture.n_samples_seen_ = seen + weight
        mixture.n_iter_ = 1 if is_first else getattr(mixture, "n_iter_", 0) + 1
        mixture.converged_ = False
        mixture.lower_bound_ = result.lower_bounds[-1]
        # These bounds are means over all data, which an update does not compute.
        mixture.lower_bounds_ = []
        # The labels belong to the samples and parameters of an earlier fit.
        mixture.__dict__.pop("labels_", None)


def _weight_seen(mixture: BaseEstimator) -> float:
    """Return the weight of the samples that the mixture has seen, which the user may set."""
    # A mixture made from given parameters has not seen samples: it is only an initialization.
    seen = getattr(mixture, "n_samples_seen_", 0.0)
    if not is_number(seen, Real) or not 0.0 <= seen < math.inf:
        msg = f"n_samples_seen_ must be a number from 0 on, got {seen!r}."
        raise ValueError(msg)
    return float(seen)


def _included_regularization(mixture: BaseEstimator) -> Tensor | None:
    """Return the regularization ``[K]`` that the covariances include; None if it is unknown."""
    if not hasattr(mixture, "regularization_"):
        return None
    amounts, components = np.ravel(mixture.regularization_), len(mixture.means_)
    if len(set(amounts)) == 1:
        # The number of components may have been changed by hand.
        amounts = np.full(components, amounts[0])
    if len(amounts) != components:
        msg = (
            f"regularization_ has {len(amounts)} values, but the mixture has {components} "
            "components: set one for each, the regularization that its variances include."
        )
        raise ValueError(msg)
    return as_tensor(amounts).double()
