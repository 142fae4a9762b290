"""Validation of sample weights, and their normalization for a fit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from sklearn_torch_gmm.rows.checks import check_floats
from sklearn_torch_gmm.rows.tensors import has_known_shape


def come_with_rows(sample_weight: Any) -> bool:
    """Whether ``sample_weight`` is True: each item of the data is a pair (row, weight)."""
    return isinstance(sample_weight, (bool, np.bool_)) and bool(sample_weight)


def validate_weights(sample_weight: Any, num_rows: int) -> npt.NDArray[np.float64]:
    """Return the weights ``[N]`` of rows as an array.

    Raises
    ------
    ValueError
        If they are negative, not finite or all zero, or if their number is not N.
    """
    if come_with_rows(sample_weight):
        msg = (
            "sample_weight=True says that each item of an IterableDataset or a DataLoader is a "
            "pair of samples and weights. Other data take an array with a weight for each sample."
        )
        raise ValueError(msg)
    if isinstance(sample_weight, Tensor):
        sample_weight = sample_weight.detach().cpu().double().numpy()
    if not hasattr(sample_weight, "shape"):
        # As objects, since even lists of different lengths then have a shape.
        sample_weight = np.asarray(sample_weight, dtype=object)
    if not has_known_shape(sample_weight):
        sample_weight = np.asarray(sample_weight)
    shape = sample_weight.shape
    if shape != (num_rows,):
        msg = f"sample_weight.shape == {shape}, expected {(num_rows,)}!"
        raise ValueError(msg)
    weights = check_floats(sample_weight, "sample_weight").astype(np.float64, copy=False)
    if (weights < 0).any():
        msg = f"Negative values in data passed to `sample_weight`, such as {weights.min():g}."
        raise ValueError(msg)
    with np.errstate(over="ignore"):
        check_total(weights.sum())
    return weights


def check_total(total: float) -> None:
    """Raise a ValueError if the sum of nonnegative weights is not positive and finite."""
    if not total > 0:
        msg = "sample_weight is zero for all samples: at least one must be positive."
        raise ValueError(msg)
    if not math.isfinite(total):
        msg = "The sum of sample_weight overflows: scale the weights down."
        raise ValueError(msg)


def sum_of_weights(sample_weight: Any) -> float:
    """Return the sum of checked weights."""
    if isinstance(sample_weight, Tensor):
        return sample_weight.sum(dtype=torch.float64).item()
    return float(np.asarray(sample_weight, dtype=np.float64).sum())


def weighted_rows(X: Any, sample_weight: Any) -> tuple[Any, npt.NDArray[np.float64] | None]:
    """Return the rows of nonzero weight, and their :func:`relative_weights`.

    ``X`` is an ndarray or Tensor ``[N, D]``, or a map-style Dataset.
    """
    if sample_weight is None:
        return X, None
    weights = validate_weights(sample_weight, len(X))
    kept = np.flatnonzero(weights > 0)
    if kept.size < weights.size:
        weights = weights[kept]
        if isinstance(X, Dataset):
            X = Subset(X, kept.tolist())
        else:
            X = X[torch.from_numpy(kept) if isinstance(X, Tensor) else kept]
    return X, relative_weights(weights)


def relative_weights(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """Return weights with a mean of one, or None if all are equal."""
    # Equal weights must not change the initialization, whose draws depend on the weights.
    if (weights == weights[0]).all():
        return None
    with np.errstate(under="ignore"):
        relative: npt.NDArray[np.float64] = weights / weights.mean()
    return relative
