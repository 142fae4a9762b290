"""Many mixtures for the same data, compared by the likelihood of rows that were not in the fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import KFold, check_cv

from sklearn_torch_gmm._estimator.base import BaseGaussianMixture
from sklearn_torch_gmm._estimator.fit_data import FitData
from sklearn_torch_gmm._selection.results import (
    error_text,
    kept_start,
    settings_of_all,
    with_parameters,
)
from sklearn_torch_gmm.rows.in_memory import ArrayRows
from sklearn_torch_gmm.rows.sample_weight import validate_weights, weighted_rows
from sklearn_torch_gmm.training.fit import fit_sweep


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
            results["error"][is_new] = f"in a fold, {error_text(error)}"


def cross_validate(candidates: Sequence[BaseGaussianMixture], data: FitData, cv: Any) -> HeldOut:
    """Fit all candidates to the rows outside of each fold, and score those inside.

    Parameters
    ----------
    candidates : sequence of GaussianMixture
    data : FitData
        In memory.
    cv : int, splitter or iterable
    """
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
        restarts = fit_sweep(rows, settings_of_all(candidates, rows.num_features))
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


def _check_enough(num_rows: int, candidates: Sequence[BaseGaussianMixture]) -> None:
    components = max(candidate.n_clusters for candidate in candidates)
    if num_rows < components:
        msg = (
            f"With criterion='cv' a fit has {num_rows} rows of weight, fewer than max_components = "
            f"{components}: use more folds, or fewer components."
        )
        raise ValueError(msg)
