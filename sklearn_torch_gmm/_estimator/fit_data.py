"""Checks of the data passed to `fit`, and the row source that a fit reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from sklearn_torch_gmm._estimator.missing import takes_gaps
from sklearn_torch_gmm._estimator.validation import numpy_dtype, validate_rows
from sklearn_torch_gmm.rows.in_memory import ArrayRows
from sklearn_torch_gmm.rows.kinds import is_read_in_pieces, source_of
from sklearn_torch_gmm.rows.sample_weight import come_with_rows, sum_of_weights, weighted_rows
from sklearn_torch_gmm.rows.source import RowSource


@dataclass(frozen=True)
class FitData:
    """The data of a fit: ``X``, checked if in memory, and its ``rows`` of positive weight.

    The weights are as the user passed them; ``dtype`` is that of the fitted attributes.
    """

    X: Any
    rows: RowSource
    sample_weight: Any
    dtype: np.dtype[Any]

    @property
    def total_weight(self) -> float:
        """Σ w, or N without weights; known after the data have been read."""
        assert self.rows.num_rows is not None, "a fit reads all rows"
        return self.rows.total_weight or float(self.rows.num_rows)


def read_data(
    estimator: BaseEstimator, X: Any, sample_weight: Any, *, keep_all: bool = False
) -> FitData:
    """Check data ``[N, D]`` and weights ``[N]``, and record the features on the estimator.

    With ``keep_all``, samples of weight zero stay in the data if their weights come with them.
    """
    if is_read_in_pieces(X):
        rows = source_of(X, sample_weight, keep_all=keep_all)
        rows.allow_missing = takes_gaps(estimator)
        _set_total_weight(rows, sample_weight)
        estimator.n_features_in_ = rows.num_features
        estimator.__dict__.pop("feature_names_in_", None)
        return FitData(X, rows, sample_weight, np.dtype(np.float64))
    X = validate_rows(estimator, X, reset=True, ensure_min_samples=2)
    in_memory = ArrayRows(*weighted_rows(X, sample_weight))
    _set_total_weight(in_memory, sample_weight)
    return FitData(X, in_memory, sample_weight, numpy_dtype(X))


def _set_total_weight(rows: RowSource, sample_weight: Any) -> None:
    """Record the sum of weights that do not come with the rows."""
    if sample_weight is not None and not come_with_rows(sample_weight):
        rows.total_weight = sum_of_weights(sample_weight)
