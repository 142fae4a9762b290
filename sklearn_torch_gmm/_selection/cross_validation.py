"""Cross-validation of many mixtures, by the likelihood of held-out samples."""

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
from sklearn_torch_gmm._estimator.progress_bars import ProgressBars
from sklearn_torch_gmm._selection.results import (
    best_restart,
    error_text,
    reject_unrepresentable,
    settings_of_all,
    with_parameters,
)
from sklearn_torch_gmm.rows.in_memory import ArrayRows
from sklearn_torch_gmm.rows.sample_weight import validate_weights, weighted_rows
from sklearn_torch_gmm.training.fit import fit_sweep


@dataclass(frozen=True)
class HeldOut:
    """Mean log-likelihoods of held-out samples, in nats.

    ``scores`` ``[folds, candidates]`` are NaN where a fit failed; ``errors`` holds the first error
    of each candidate that failed, by its position.
    """

    scores: npt.NDArray[np.float64]
    errors: dict[int, ValueError]

    def add_to(
        self, results: dict[str, npt.NDArray[Any]], of_candidate: npt.NDArray[np.intp]
    ) -> None:
        """Add the scores, and the errors of candidates that succeeded on all samples, to a table.

        If each candidate failed either on all samples or in a fold, the first error is raised.
        """
        results["mean_test_score"] = self.scores.mean(0)[of_candidate]
        if np.isnan(results["mean_test_score"][results["is_kept"]]).all():
            raise self.errors[min(self.errors)]
        results["std_test_score"] = self.scores.std(0)[of_candidate]
        for position, error in self.errors.items():
            is_new = (of_candidate == position) & (results["error"] == "")
            results["error"][is_new] = f"in a fold, {error_text(error)}"


def cross_validate(
    candidates: Sequence[BaseGaussianMixture],
    data: FitData,
    cv: Any,
    bars: ProgressBars | None = None,
) -> HeldOut:
    """Fit all candidates to the training samples of each fold in memory, and score the others."""
    weights = data.sample_weight
    if weights is not None:
        weights = validate_weights(weights, data.X.shape[0])
    if isinstance(cv, Integral):
        places = np.arange(data.X.shape[0]) if weights is None else np.flatnonzero(weights)
        folds = _shuffled_folds(places, int(cv), candidates[0].random_state)
    else:
        folds = _folds(cv, data.X.shape[0])
    components = max(candidate.n_clusters for candidate in candidates)
    scores: list[list[float]] = []
    errors: dict[int, ValueError] = {}
    for number, (train, test) in enumerate(folds, start=1):
        if bars is not None:
            bars.prefix = f"fold {number} of {len(folds)}: "
        test_weights, train_weights = (
            None if weights is None else weights[fold] for fold in (test, train)
        )
        if any(part is not None and not part.any() for part in (test_weights, train_weights)):
            msg = "sample_weight is zero for all samples inside or outside of a fold of cv."
            raise ValueError(msg)
        rows = ArrayRows(*weighted_rows(data.X[train], train_weights))
        if rows.num_rows < components:
            msg = (
                f"With criterion='cv' a fit has {rows.num_rows} samples of positive weight, fewer "
                f"than max_components = {components}: use more folds, or fewer components."
            )
            raise ValueError(msg)
        with rows:
            fits = fit_sweep(rows, settings_of_all(candidates, rows.num_features), bars)
        reject_unrepresentable(candidates, fits, data.dtype)
        scores.append([])
        for position, (candidate, restarts) in enumerate(zip(candidates, fits, strict=True)):
            kept = best_restart(restarts)
            if kept is None:
                assert restarts[0].error is not None
                errors.setdefault(position, restarts[0].error)
                scores[-1].append(math.nan)
                continue
            mixture = with_parameters(candidate, restarts[kept], data.dtype)
            scores[-1].append(mixture.score(data.X[test], sample_weight=test_weights))
    if bars is not None:
        bars.prefix = ""
    return HeldOut(np.array(scores), errors)


Folds = list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]
"""The training and test indices of each fold."""


def _shuffled_folds(rows: npt.NDArray[np.intp], number: int, random_state: Any) -> Folds:
    """Return folds of the numbered rows, shuffled because data sets are often sorted."""
    splitter = KFold(number, shuffle=True, random_state=random_state)
    return [(rows[train], rows[test]) for train, test in splitter.split(rows)]


def _folds(cv: Any, num_rows: int) -> Folds:
    """Return the folds of a splitter or of pairs of indices, or raise ValueError."""
    # Splitters only count samples; the data may be a tensor on a GPU, which they cannot index.
    places = np.zeros((num_rows, 1))
    try:
        folds = [(_indices(train), _indices(test)) for train, test in check_cv(cv).split(places)]
        are_usable = len(folds) > 0 and all(
            len(places[indices]) > 0 for train, test in folds for indices in (train, test)
        )
    except (IndexError, TypeError, ValueError) as error:
        if isinstance(error, TypeError) and hasattr(cv, "split"):
            msg = f"cv={cv!r} needs more than samples, and a search has no classes: {error}"
            raise ValueError(msg) from error
        if hasattr(cv, "split"):
            # A splitter has its own error message.
            raise
        are_usable = False
    if not are_usable:
        msg = (
            "cv must be a number of folds, a splitter, or pairs of indices (train, test) of some "
            f"of the {num_rows} samples, got {cv!r}."
        )
        raise ValueError(msg)
    return folds


def _indices(values: Any) -> npt.NDArray[Any]:
    """Return an array of indices, or a mask, for rows that may be a tensor."""
    indices = np.asarray(values)
    if indices.ndim != 1:
        msg = f"The indices of a fold have {indices.ndim} dimensions."
        raise ValueError(msg)
    # torch would take numbers of type uint8 for a mask.
    return indices.astype(np.intp) if indices.dtype.kind in "iu" else indices
