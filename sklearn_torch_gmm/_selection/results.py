"""The fits of a search: their settings, their table of results, and the choice among them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import adjusted_rand_score
from sklearn.utils import check_random_state
from torch import Tensor

from sklearn_torch_gmm._estimator.base import BaseGaussianMixture
from sklearn_torch_gmm._estimator.fit_data import FitData
from sklearn_torch_gmm._estimator.fitted_state import set_parameters
from sklearn_torch_gmm._estimator.vocabulary import settings_of
from sklearn_torch_gmm.core.covariance import get_structure
from sklearn_torch_gmm.core.fixed import num_free_parameters
from sklearn_torch_gmm.em.restarts import Restart
from sklearn_torch_gmm.em.results import first_of_best
from sklearn_torch_gmm.em.settings import FitSettings

Fits = Sequence[Sequence[Restart]]
"""The restarts of each candidate."""

CRITERIA = ("bic", "aic", "icl")


def settings_of_all(
    candidates: Sequence[BaseGaussianMixture], num_features: int
) -> list[FitSettings]:
    """Return the settings of fits to the same samples, which share one random state."""
    random_state = check_random_state(candidates[0].random_state)
    settings = [settings_of(candidate, num_features, random_state) for candidate in candidates]
    return [
        replace(one, goes_on_without=True, components_name="max_components") for one in settings
    ]


def num_parameters(candidate: BaseGaussianMixture, num_features: int) -> int:
    """Return the number of parameters that are estimated from the data."""
    structure = get_structure(candidate.covariance_type)
    return num_free_parameters(structure, candidate.n_clusters, num_features)


def criteria(
    log_likelihood: float, log_certainty: float, parameters: int, total_weight: float
) -> dict[str, float]:
    """Return the information criteria by name; smaller is better.

    They depend on the log-likelihood Σ w log p(x) and the certainty Σ w log max_k r_k in nats, the
    number of free parameters, and the total weight Σ w.
    """
    bic = -2.0 * log_likelihood + parameters * math.log(total_weight)
    aic = -2.0 * log_likelihood + 2.0 * parameters
    return {"bic": bic, "aic": aic, "icl": bic - 2.0 * log_certainty}


def best_restart(restarts: Sequence[Restart]) -> int | None:
    """Return the position of the restart that a single fit would keep, None if all failed."""
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
                **criteria(log_likelihood, log_certainty, parameters, total_weight),
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


def row_of_best(results: Mapping[str, npt.NDArray[Any]], criterion: str) -> int:
    """Return the first row with the smallest criterion among the restarts that are kept."""
    values, _ = values_of(results, criterion)
    return int(np.nanargmin(np.where(results["is_kept"], values, math.nan)))


def values_of(
    results: Mapping[str, npt.NDArray[Any]], criterion: str
) -> tuple[npt.NDArray[np.float64], str]:
    """Return the values to minimize, and their name."""
    if criterion in CRITERIA:
        return results[criterion], criterion.upper()
    return -results["mean_test_score"], "held-out negative log-likelihood"


def with_parameters(
    candidate: BaseGaussianMixture, restart: Restart, dtype: np.dtype[Any]
) -> BaseGaussianMixture:
    """Return a candidate for inference on validated data, without feature names."""
    mixture: BaseGaussianMixture = candidate.clone()
    set_parameters(mixture, restart.parameters, dtype)
    return mixture


def mean_agreement(
    candidates: Sequence[BaseGaussianMixture], fits: Fits, data: FitData
) -> list[float]:
    """Return each candidate's mean adjusted Rand index of two restarts; NaN for fewer than two."""
    means = []
    for candidate, restarts in zip(candidates, fits, strict=True):
        labels = [
            _labels(with_parameters(candidate, restart, data.dtype), data.X)
            for restart in restarts
            if restart.error is None
        ]
        indices = [adjusted_rand_score(one, other) for one, other in combinations(labels, 2)]
        means.append(float(np.mean(indices)) if indices else math.nan)
    return means


def _labels(mixture: BaseGaussianMixture, X: Any) -> npt.NDArray[np.int64]:
    labels = mixture.predict(X)
    return np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)


class Printer:
    """Prints a line for each fit that is done, with the best fit so far.

    Only AIC and BIC are printed, since they follow from the likelihood before the last M-step; the
    other criteria are computed after all fits are done.
    """

    def __init__(
        self, candidates: Sequence[BaseGaussianMixture], data: FitData, criterion: str
    ) -> None:
        self._candidates = candidates
        self._data = data
        self._criterion = criterion if criterion == "aic" else "bic"
        self._printed: set[int] = set()
        self._best = (math.inf, "none")

    def fits_done(self, fits: Mapping[int, Sequence[Restart]]) -> None:
        """Print the fits, by position, that were not done before."""
        for position, restarts in fits.items():
            if position not in self._printed:
                self._printed.add(position)
                self._print(self._candidates[position], restarts)

    def _print(self, candidate: BaseGaussianMixture, restarts: Sequence[Restart]) -> None:
        outcome = f"{candidate.covariance_type}, n_components={candidate.n_clusters}"
        kept = best_restart(restarts)
        if kept is None:
            outcome += ": failed"
        else:
            best, weight = restarts[kept], self._data.total_weight
            parameters = num_parameters(candidate, self._data.rows.num_features)
            value = criteria(weight * best.lower_bound, 0.0, parameters, weight)[self._criterion]
            outcome += f", {self._criterion}={value:.2f}"
            self._best = min(self._best, (value, outcome))
            state = "converged" if best.converged else "did not converge"
            outcome += f", {state} in {len(best.lower_bounds)} iterations"
        count = f"[{len(self._printed)}/{len(self._candidates)}]"
        print(f"{count} {outcome}; best so far: {self._best[1]}")
