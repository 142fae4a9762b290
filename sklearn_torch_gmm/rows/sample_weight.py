"""Weights of rows: what they may be, and the form in which a fit takes them."""

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
    """Whether the user has said that each item of the data is a pair (row, weight)."""
    return isinstance(sample_weight, (bool, np.bool_)) and bool(sample_weight)


def validate_weights(sample_weight: Any, num_rows: int) -> npt.NDArray[np.float64]:
    """Check the weights ``[N]`` of rows.

    Returns
    -------
    ndarray [N]

    Raises
    ------
    ValueError
        If they are negative, not finite, all zero, or not one for each row.
    """
    if come_with_rows(sample_weight):
        msg = (
            "sample_weight=True says that each item of an IterableDataset or a DataLoader is a "
            "pair of rows and weights. Other data take an array with one weight for each row."
        )
        raise ValueError(msg)
    if isinstance(sample_weight, Tensor):
        sample_weight = sample_weight.detach().cpu().double().numpy()
    if not hasattr(sample_weight, "shape"):
        # Of objects: lists of different lengths, too, have a shape then.
        sample_weight = np.asarray(sample_weight, dtype=object)
    if not has_known_shape(sample_weight):
        sample_weight = np.asarray(sample_weight)
    shape = sample_weight.shape
    if shape != (num_rows,):
        msg = f"sample_weight.shape == {shape}, expected {(num_rows,)}!"
        raise ValueError(msg)
    weights = check_floats(sample_weight, "sample_weight").astype(np.float64, copy=False)
    if (weights < 0).any():
        msg = f"Negative values in data passed to `sample_weight`: {weights.min():g} is one."
        raise ValueError(msg)
    with np.errstate(over="ignore"):
        check_total(weights.sum())
    return weights


def check_total(total: float) -> None:
    """Raise ValueError if weights that are not negative have no positive, finite sum."""
    if not total > 0:
        msg = "sample_weight is zero for all rows: at least one must be positive."
        raise ValueError(msg)
    if not math.isfinite(total):
        msg = "The sum of sample_weight overflows: scale the weights down."
        raise ValueError(msg)


def total_weight(sample_weight: Any, num_rows: int) -> float:
    """Return the sum of checked weights; rows without weights weigh one each."""
    if sample_weight is None:
        return float(num_rows)
    if isinstance(sample_weight, Tensor):
        return sample_weight.sum(dtype=torch.float64).item()
    return float(np.asarray(sample_weight, dtype=np.float64).sum())


def weighted_rows(
    X: Any, sample_weight: Any, *, keep_all: bool = False
) -> tuple[Any, npt.NDArray[np.float64] | None]:
    """Return the rows of weight, and their weights by :func:`relative_weights`.

    Parameters
    ----------
    X : ndarray or Tensor [N, D]
    sample_weight : array-like [N] or None
    keep_all : bool, default=False
        Whether rows of weight zero stay where they are.
    """
    if sample_weight is None:
        return X, None
    weights = validate_weights(sample_weight, X.shape[0])
    kept = weights > 0
    if not keep_all and not kept.all():
        X, weights = X[torch.from_numpy(kept) if isinstance(X, Tensor) else kept], weights[kept]
    return X, relative_weights(weights)


def weighted_subset(
    dataset: Dataset[Any], sample_weight: Any, *, keep_all: bool = False
) -> tuple[Dataset[Any], npt.NDArray[np.float64] | None]:
    """Return the items of weight, and their weights by :func:`relative_weights`."""
    if sample_weight is None:
        return dataset, None
    weights = validate_weights(sample_weight, len(dataset))  # type: ignore[arg-type]
    kept = np.flatnonzero(weights > 0)
    if not keep_all and kept.size < weights.size:
        dataset, weights = Subset(dataset, kept.tolist()), weights[kept]
    return dataset, relative_weights(weights)


def relative_weights(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """Return weights with a mean of one, or None where all are equal."""
    # A start draws other random numbers where the chances of the rows differ.
    return None if (weights == weights[0]).all() else weights / weights.mean()
