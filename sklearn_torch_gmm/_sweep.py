"""Many mixtures for the same data: what is fitted, and what is known of it afterwards."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import KFold, check_cv
from sklearn.utils import check_random_state

from sklearn_torch_gmm._reading import FitData
from sklearn_torch_gmm._weights import validate_weights, weighted_rows
from sklearn_torch_gmm.core.covariance import get_structure
from sklearn_torch_gmm.core.fixed import num_free_parameters
from sklearn_torch_gmm.mixture import GaussianMixture

if TYPE_CHECKING:
    from sklearn_torch_gmm.training.settings import FitSettings
    from sklearn_torch_gmm.training.starts import Restart

Restarts = Sequence[Sequence["Restart"]]

CRITERIA = ("bic", "aic", "icl")


def settings_of(candidates: Sequence[GaussianMixture], num_features: int) -> list[FitSettings]:
    """Return the settings of fits to the same rows; they draw from one random state."""
    random_state = check_random_state(candidates[0].random_state)
    settings = [candidate._fit_settings(num_features, random_state) for candidate in candidates]
    return [replace(member, goes_on_without=True) for member in settings]


def num_parameters(candidate: GaussianMixture, num_features: int) -> int:
    """Return the number of parameters that are estimated from the data."""
    structure = get_structure(candidate.covariance_type)
    return num_free_parameters(structure, candidate.n_components, num_features)


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
    from sklearn_torch_gmm.training.fit import first_of_best

    good = [restart for restart in restarts if restart.error is None]
    if not good:
        return None
    best = first_of_best(good)
    return next(i for i, restart in enumerate(restarts) if restart is best)


def results_table(
    candidates: Sequence[GaussianMixture],
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
    candidates: Sequence[GaussianMixture],
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
                "n_components": candidate.n_components,
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
                "error": "" if error is None else _text(error),
            }


def _text(error: ValueError) -> str:
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
    candidate: GaussianMixture, restart: Restart, dtype: np.dtype[Any]
) -> GaussianMixture:
    """Return a candidate that can answer for checked rows, which have no names of features."""
    mixture: GaussianMixture = candidate.clone()
    mixture._set_fitted(restart.parameters, dtype)
    return mixture


def remember_features(mixture: GaussianMixture, estimator: Any) -> None:
    """Copy what an estimator knows of its features."""
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(estimator, name):
            setattr(mixture, name, getattr(estimator, name))


# -- held-out likelihood --------------------------------------------------------------------------


@dataclass(frozen=True)
class HeldOut:
    """Likelihood of rows that were not in the fit.

    Attributes
    ----------
    scores : ndarray of shape (n_folds, n_candidates)
        Mean log-likelihoods, in nats per row; NaN where the fit failed.
    errors : dict of int to ValueError
        The first of each candidate that failed.
    """

    scores: npt.NDArray[np.float64]
    errors: dict[int, ValueError]

    def add_to(
        self, results: dict[str, npt.NDArray[Any]], of_candidate: npt.NDArray[np.intp]
    ) -> None:
        """Write columns, and the errors of candidates that succeeded on all rows alone.

        Raises
        ------
        ValueError
            The first error of a fold, if each candidate failed on all rows or in a fold.
        """
        results["mean_test_score"] = self.scores.mean(0)[of_candidate]
        if np.isnan(results["mean_test_score"][results["is_kept"]]).all():
            raise self.errors[min(self.errors)]
        results["std_test_score"] = self.scores.std(0)[of_candidate]
        for position, error in self.errors.items():
            is_new = (of_candidate == position) & (results["error"] == "")
            results["error"][is_new] = f"in a fold, {_text(error)}"


def cross_validate(candidates: Sequence[GaussianMixture], data: FitData, cv: Any) -> HeldOut:
    """Fit all candidates to the rows outside of each fold, and score those inside.

    Parameters
    ----------
    candidates : sequence of GaussianMixture
    data : FitData
        In memory.
    cv : int, splitter or iterable
    """
    from sklearn_torch_gmm.training.arrays import ArrayRows
    from sklearn_torch_gmm.training.fit import fit_sweep

    if isinstance(cv, Integral):
        # Rows often come sorted.
        cv = KFold(cv, shuffle=True, random_state=candidates[0].random_state)
    # Splitters count rows, and need not see those of a tensor on a GPU.
    places = np.zeros((data.X.shape[0], 1))
    weights = data.sample_weight
    if weights is not None:
        weights = validate_weights(weights, len(places))
    scores: list[list[float]] = []
    errors: dict[int, ValueError] = {}
    for train, test in _folds(cv, places):
        inside, outside = (None if weights is None else weights[i] for i in (test, train))
        if any(part is not None and not part.any() for part in (inside, outside)):
            msg = "sample_weight is zero for all rows inside or outside of a fold of cv."
            raise ValueError(msg)
        rows = ArrayRows(*weighted_rows(data.X[train], outside))
        _check_enough(rows.num_rows, candidates)
        restarts = fit_sweep(rows, settings_of(candidates, rows.num_features))
        scores.append([])
        for position, (candidate, starts) in enumerate(zip(candidates, restarts, strict=True)):
            kept = kept_start(starts)
            if kept is None:
                assert starts[0].error is not None
                errors.setdefault(position, starts[0].error)
                scores[-1].append(math.nan)
                continue
            mixture = with_parameters(candidate, starts[kept], data.dtype)
            scores[-1].append(mixture.score(data.X[test], sample_weight=inside))
    return HeldOut(np.array(scores), errors)


def _folds(
    cv: Any, places: npt.NDArray[np.float64]
) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Return the rows outside and inside of each fold.

    Raises
    ------
    ValueError
        If there is no fold, or one that is no pair of indices of rows.
    """
    try:
        folds = list(check_cv(cv).split(places))
        are_usable = len(folds) > 0 and all(
            len(places[indices]) > 0 for train, test in folds for indices in (train, test)
        )
    except (IndexError, TypeError, ValueError):
        if hasattr(cv, "split"):
            # A splitter has words of its own.
            raise
        are_usable = False
    if not are_usable:
        msg = (
            "cv must be a number of folds, a splitter, or pairs of indices (train, test) of some "
            f"of the {len(places)} rows, got {cv!r}."
        )
        raise ValueError(msg)
    return folds


def _check_enough(num_rows: int, candidates: Sequence[GaussianMixture]) -> None:
    components = max(candidate.n_components for candidate in candidates)
    if num_rows < components:
        msg = (
            f"With criterion='cv' a fit has {num_rows} rows of weight, fewer than max_components = "
            f"{components}: use more folds, or fewer components."
        )
        raise ValueError(msg)


# -- stability ------------------------------------------------------------------------------------


def mean_agreement(
    candidates: Sequence[GaussianMixture], restarts: Restarts, data: FitData
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


def _labels(mixture: GaussianMixture, X: Any) -> Any:
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
        self, candidates: Sequence[GaussianMixture], data: FitData, criterion: str
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

    def _tell(self, candidate: GaussianMixture, restarts: Sequence[Restart]) -> None:
        name = f"{candidate.covariance_type}, n_components={candidate.n_components}"
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
