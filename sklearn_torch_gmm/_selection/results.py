"""The settings of the fits of a search, and the table of their results."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import FitFailedWarning

from sklearn_torch_gmm._estimator.base import BaseGaussianMixture
from sklearn_torch_gmm._estimator.fitted_state import set_parameters
from sklearn_torch_gmm._estimator.outcome import check_representable
from sklearn_torch_gmm._estimator.vocabulary import settings_of
from sklearn_torch_gmm._selection.criteria import information_criteria
from sklearn_torch_gmm.core.caller import level_of_caller
from sklearn_torch_gmm.core.covariance import get_structure
from sklearn_torch_gmm.core.fixed import num_free_parameters
from sklearn_torch_gmm.em.restarts import Restart
from sklearn_torch_gmm.em.results import first_of_best
from sklearn_torch_gmm.em.settings import FitSettings
from sklearn_torch_gmm.exceptions import UnrepresentableParameterError
from sklearn_torch_gmm.rows.random_numbers import RandomNumbers

Fits = Sequence[Sequence[Restart]]
"""The restarts of each candidate."""


def settings_of_all(
    candidates: Sequence[BaseGaussianMixture], num_features: int
) -> list[FitSettings]:
    """Return the settings of fits to the same samples, which share their random numbers."""
    random = RandomNumbers(candidates[0].random_state)
    settings = [settings_of(candidate, num_features, random) for candidate in candidates]
    return [
        replace(one, records_failures=True, components_name="max_components") for one in settings
    ]


def reject_unrepresentable(
    candidates: Sequence[BaseGaussianMixture], fits: Fits, dtype: np.dtype[Any]
) -> None:
    """Let restarts whose variances ``dtype`` cannot hold fail, and not the whole search."""
    for candidate, restarts in zip(candidates, fits, strict=True):
        structure = get_structure(candidate.covariance_type)
        for restart in restarts:
            if restart.error is not None:
                continue
            parameters = restart.parameters
            own = structure.variances(parameters.covariances[0], *parameters.means.shape[-2:])
            try:
                check_representable(own, dtype)
            except UnrepresentableParameterError as error:
                restart.error = error


def num_parameters(candidate: BaseGaussianMixture, num_features: int) -> int:
    """Return the number of parameters that are estimated from the data."""
    structure = get_structure(candidate.covariance_type)
    return num_free_parameters(structure, candidate.n_clusters, num_features)


def best_restart(restarts: Sequence[Restart]) -> int | None:
    """Return the position of the restart that a single fit would keep, or None if all failed."""
    succeeded = [restart for restart in restarts if restart.error is None]
    if not succeeded:
        return None
    best = first_of_best(succeeded)
    return next(i for i, restart in enumerate(restarts) if restart is best)


def results_table(
    candidates: Sequence[BaseGaussianMixture], fits: Fits, num_features: int, total_weight: float
) -> dict[str, npt.NDArray[Any]]:
    """Return a dictionary of columns with one row for each restart of each candidate."""
    rows: list[dict[str, Any]] = []
    for candidate, restarts in zip(candidates, fits, strict=True):
        kept = best_restart(restarts)
        parameters = num_parameters(candidate, num_features)
        for number, restart in enumerate(restarts):
            log_likelihood = total_weight * restart.log_likelihood
            log_certainty = total_weight * restart.certainty
            row = {
                "n_components": candidate.n_clusters,
                "covariance_type": candidate.covariance_type,
                "start": number,
                "is_kept": number == kept,
                "n_parameters": parameters,
                "log_likelihood": log_likelihood,
                "lower_bound": restart.lower_bound if restart.lower_bounds else math.nan,
                **information_criteria(log_likelihood, log_certainty, parameters, total_weight),
                "n_iter": len(restart.lower_bounds),
                "converged": restart.converged,
                "seconds": restart.seconds,
                "error": "" if restart.error is None else error_text(restart.error),
            }
            rows.append(row)
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    for name in ("covariance_type", "error"):
        columns[name] = columns[name].astype(object)
    return columns


def error_text(error: ValueError) -> str:
    """Return the table's entry for an error."""
    return f"{type(error).__name__}: {error}"


def with_parameters(
    candidate: BaseGaussianMixture, restart: Restart, dtype: np.dtype[Any]
) -> BaseGaussianMixture:
    """Return a candidate for inference on validated data, without feature names."""
    mixture: BaseGaussianMixture = candidate.clone()
    set_parameters(mixture, restart.parameters, dtype)
    return mixture


def warn_of_failures(results: Mapping[str, npt.NDArray[Any]]) -> None:
    """Warn of fits that failed, if some did."""
    errors = results["error"][results["error"] != ""]
    if len(errors) > 0:
        warnings.warn(
            f"{len(errors)} of {len(results['error'])} fits failed, and only the others were "
            f"compared; results_ holds the errors. The first is {errors[0]}",
            FitFailedWarning,
            stacklevel=level_of_caller(),
        )
