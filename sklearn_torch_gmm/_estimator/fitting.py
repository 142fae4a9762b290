"""A fit, from the user's data to the fitted attributes."""

from __future__ import annotations

from os import PathLike
from typing import Any

from sklearn.base import BaseEstimator

from sklearn_torch_gmm._estimator.fit_data import read_data
from sklearn_torch_gmm._estimator.fitted_state import keep_result
from sklearn_torch_gmm._estimator.outcome import as_before_on_failure, warn_of_outcome
from sklearn_torch_gmm._estimator.size import check_size
from sklearn_torch_gmm._estimator.vocabulary import (
    num_components_of,
    settings_of,
    starts_from_array,
)
from sklearn_torch_gmm._private_parts import validate_parameters
from sklearn_torch_gmm.em.failures import check_number_of_rows
from sklearn_torch_gmm.rows.random_numbers import RandomNumbers
from sklearn_torch_gmm.training.fit import fit_mixture


def fit_to_data(
    mixture: BaseEstimator,
    X: Any,
    sample_weight: Any,
    ckpt_path: str | PathLike[str] | None = None,
) -> None:
    """Fit, for `fit` and `fit_predict`, of which a subclass may override either.

    A method would stand in the way of a subclass that has one of the same name.
    """
    validate_parameters(mixture)
    with as_before_on_failure(mixture):
        data = read_data(mixture, X, sample_weight, keep_all=starts_from_array(mixture))
        rows, name = data.rows, mixture._vocabulary.components
        if rows.num_rows is not None:
            check_number_of_rows(rows.num_rows, num_components_of(mixture), name)
        random = RandomNumbers(mixture.random_state)
        settings = settings_of(mixture, rows.num_features, random, sample_weight)
        check_size([settings], rows.num_rows, rows.num_features)
        with rows:
            with mixture._monitor_of_fit() as monitor:
                result = fit_mixture(rows, settings, ckpt_path, monitor)
            warn_of_outcome(mixture, result, settings)
            keep_result(mixture, result, settings, data)
