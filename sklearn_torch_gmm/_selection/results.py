"""Many mixtures for the same data: what is fitted, and what is known of it afterwards."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import adjusted_rand_score
from sklearn.utils import check_random_state

from sklearn_torch_gmm._estimator.base import BaseGaussianMixture
from sklearn_torch_gmm._estimator.fit_data import FitData
from sklearn_torch_gmm._estimator.fitted_state import set_parameters
from sklearn_torch_gmm._estimator.vocabulary import settings_of
from sklearn_torch_gmm.core.covariance import get_structure
from sklearn_torch_gmm.core.fixed import num_free_parameters
from sklearn_torch_gmm.em.restarts import Restart
from sklearn_torch_gmm.em.results import first_of_best
from sklearn_torch_gmm.em.settings import FitSettings

Restarts = Sequence[Sequence[Restart]]

CRITERIA = ("bic", "aic", "icl")


def settings_of_all(
    candidates: Sequence[BaseGaussianMixture], num_features: int
) -> list[FitSettings]:
    """Return the settings of fits to the same rows; they draw from one random state."""
    random_state = check_random_state(candidates[0].random_state)
    settings = [settings_of(candidate, num_features, random_state) for candidate in candidates]
    return [
        replace(member, goes_on_without=True, components_name="max_components")
        for member in settings
    ]


def num_parameters(candidate: BaseGaussianMixture, num_features: int) -> int:
    """Return the number of parameters that are estimated from the data."""
    structure = get_structure(candidate.covariance_type)
    return num_free_parameters(structure, candidate.n_clusters, num_features)


def criteria(
    log_likelihood: float, log_certainty: float, parameters: int, total_weight: float
) -> dict[str, float]:
    """Return the information criteria by name; smaller is better.

    Parameters
    ----------
    log_likelihood : float
        Σ w log p(x), in nats.
    log_certainty : float
        Σ w log max_k r_k, in nats.
    parameters : int
    total_weight : float
        Σ w.
    """
    bic = -2.0 * log_likelihood + parameters * math.log(total_weight)
    aic = -2.0 * log_likelihood + 2.0 * parameters
    return {"bic": bic, "aic": aic, "icl": bic - 2.0 * log_certainty}


def kept_start(restarts: Sequence[Restart]) -> int | None:
    """Return the position of the start that a fit by itself would keep, None if all failed."""
    good = [restart for restart in restarts if restart.error is None]
    if not good:
        return None
    best = first_of_best(good)
    return next(i for i, restart in enumerate(restarts) if restart is best)


def results_table(
    candidates: Sequence[BaseGaussianMixture],
    restarts: Restarts,
    num_features: int,
    total_weight: float,
) -> dict[str, npt.NDArray[Any]]:
    """Return one row for each candidate and start, as a dictionary of columns."""
    rows = list(_rows(candidates, restarts, num_features, total_weight))
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    for name in ("covariance_type", "error"):
        columns[name] = columns[name].astype(object)
    return columns


def _rows(
    candidates: Sequence[BaseGaussianMixture],
    restarts: Restarts,
    num_features: int,
    total_weight: float,
) -> Iterator[dict[str, Any]]:
    for candidate, starts in zip(candidates, restarts, strict=True):
        kept = kept_start(starts)
        parameters = num_parameters(candidate, num_features)
        for number, restart in enumerate(starts):
            log_likelihood = total_weight * restart.log_likelihood
            log_certainty = total_weight * restart.certainty
            error = restart.error
            yield {
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
                "error": "" if error is None else error_text(error),
            }


def error_text(error: ValueError) -> str:
    """Return what the table says of an error."""
    return f"{type(error).__name__}: {error}"


def row_of_best(results: Mapping[str, npt.NDArray[Any]], criterion: str) -> int:
    """Return the row of the likeliest start that has the best criterion; the first of equals."""
    values, _ = values_of(results, criterion)
    return int(np.nanargmin(np.where(results["is_kept"], values, math.nan)))


def values_of(
    results: Mapping[str, npt.NDArray[Any]], criterion: str
) -> tuple[npt.NDArray[np.float64], str]:
    """Return what is to be small, and its name."""
    if criterion in CRITERIA:
        return results[criterion], criterion.upper()
    return -results["mean_test_score"], "held-out negative log-likelihood"


def with_parameters(
    candidate: BaseGaussianMixture, restart: Restart, dtype: np.dtype[Any]
) -> BaseGaussianMixture:
    """Return a candidate that can answer for checked rows, which have no names of features."""
    mixture: BaseGaussianMixture = candidate.clone()
    set_parameters(mixture, restart.parameters, dtype)
    return mixture


def remember_features(mixture: BaseGaussianMixture, estimator: Any) -> None:
    """Copy what an estimator knows of its features."""
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(estimator, name):
            setattr(mixture, name, getattr(estimator, name))


# -- stability ------------------------------------------------------------------------------------


def mean_agreement(
    candidates: Sequence[BaseGaussianMixture], restarts: Restarts, data: FitData
) -> list[float]:
    """Return the mean adjusted Rand index of each candidate's starts; NaN for less than two."""
    means = []
    for candidate, starts in zip(candidates, restarts, strict=True):
        labels = [
            np.asarray(_labels(with_parameters(candidate, restart, data.dtype), data.X))
            for restart in starts
            if restart.error is None
        ]
        indices = [adjusted_rand_score(one, other) for one, other in combinations(labels, 2)]
        means.append(float(np.mean(indices)) if indices else math.nan)
    return means


def _labels(mixture: BaseGaussianMixture, X: Any) -> Any:
    labels = mixture.predict(X)
    return labels.cpu() if hasattr(labels, "cpu") else labels


# -- progress -------------------------------------------------------------------------------------


class Printer:
    """Prints a line for each candidate that is done, with the best so far.

    Parameters
    ----------
    candidates : sequence of GaussianMixture
    data : FitData
    criterion : str
        One that the likelihood before the last M-step tells: that of the mixture is found later.
    """

    def __init__(
        self, candidates: Sequence[BaseGaussianMixture], data: FitData, criterion: str
    ) -> None:
        self._candidates = candidates
        self._data = data
        self._criterion = criterion if criterion == "aic" else "bic"
        self._told: set[int] = set()
        self._best = (math.inf, "none")

    def members_done(self, restarts: Mapping[int, Sequence[Restart]]) -> None:
        """Tell of the members that were not done before."""
        for position, starts in restarts.items():
            if position not in self._told:
                self._told.add(position)
                self._tell(self._candidates[position], starts)

    def _tell(self, candidate: BaseGaussianMixture, restarts: Sequence[Restart]) -> None:
        name = f"{candidate.covariance_type}, n_components={candidate.n_clusters}"
        count = f"[{len(self._told)}/{len(self._candidates)}]"
        kept = kept_start(restarts)
        if kept is None:
            print(f"{count} {name}: failed; best so far: {self._best[1]}")
            return
        best, weight = restarts[kept], self._data.total_weight
        parameters = num_parameters(candidate, self._data.rows.num_features)
        value = criteria(weight * best.lower_bound, 0.0, parameters, weight)[self._criterion]
        found = f"{name}, {self._criterion}={value:.2f}"
        self._best = min(self._best, (value, found))
        state = "converged" if best.converged else "did not converge"
        print(
            f"{count} {found}, {state} in {len(best.lower_bounds)} iterations; "
            f"best so far: {self._best[1]}"
        )
