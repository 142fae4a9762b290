"""Arrays, frames, tensors and datasets in; the caller's kind back out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data
from torch import Tensor
from torch.utils.data import Dataset, Subset

from sklearn_torch_gmm._arrays import as_tensor

FLOAT_TYPES = [np.float64, np.float32]


def validate_rows(
    estimator: BaseEstimator, X: Any, *, reset: bool, ensure_min_samples: int = 1
) -> Any:
    """Check an array-like, a data frame or a tensor ``[N, D]``.

    Parameters
    ----------
    estimator : BaseEstimator
        Remembers the number and the names of the features if ``reset``, is held against them
        otherwise.
    X : array-like, DataFrame or Tensor [N, D]
    reset : bool
    ensure_min_samples : int, default=1

    Returns
    -------
    ndarray or Tensor [N, D]
        A tensor for a tensor, on its device. float32 or float64.

    Raises
    ------
    ValueError
        If ``X`` is not a finite, real matrix of the right width.
    """
    if not isinstance(X, Tensor):
        return validate_data(
            estimator, X, reset=reset, dtype=FLOAT_TYPES, ensure_min_samples=ensure_min_samples
        )
    X = X.detach()
    if not X.is_floating_point():
        if X.is_complex():
            msg = "Complex data not supported: got a tensor of complex numbers."
            raise ValueError(msg)
        X = X.double()
    elif X.dtype not in (torch.float32, torch.float64):
        X = X.float()
    if X.device.type == "cpu":
        return torch.from_numpy(
            validate_data(
                estimator,
                X.numpy(),
                reset=reset,
                dtype=FLOAT_TYPES,
                ensure_min_samples=ensure_min_samples,
            )
        )
    # scikit-learn's checks of the shape, on an array of that shape which takes no memory.
    check_array(
        np.broadcast_to(np.float32(0), X.shape),
        input_name="X",
        ensure_min_samples=ensure_min_samples,
        estimator=estimator,
    )
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    # A sum is not finite if one of its terms is not; only then is it worth a look at each.
    if not X.sum(dtype=torch.float64).isfinite() and not X.isfinite().all():
        msg = "Input X contains NaN or infinity."
        raise ValueError(msg)
    return X


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
    if isinstance(sample_weight, Tensor):
        sample_weight = sample_weight.detach().cpu().double().numpy()
    shape = np.asarray(sample_weight).shape
    if shape != (num_rows,):
        msg = f"sample_weight.shape == {shape}, expected {(num_rows,)}!"
        raise ValueError(msg)
    weights: npt.NDArray[np.float64] = check_array(
        sample_weight, dtype=np.float64, ensure_2d=False, input_name="sample_weight"
    )
    if (weights < 0).any():
        msg = f"Negative values in data passed to `sample_weight`: {weights.min():g} is one."
        raise ValueError(msg)
    if not (weights > 0).any():
        msg = "sample_weight is zero for all rows: at least one must be positive."
        raise ValueError(msg)
    if weights.max() > np.finfo(np.float64).max / num_rows:
        msg = f"The sum of sample_weight overflows: {weights.max():g} is one. Scale them down."
        raise ValueError(msg)
    return weights


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


def numpy_dtype(X: Any) -> np.dtype[Any]:
    """Return NumPy's name for the type of the numbers in checked data."""
    return np.dtype(str(X.dtype).removeprefix("torch."))


def rows_of(X: Any) -> Tensor:
    """Return checked data as a tensor on the same memory."""
    return X if isinstance(X, Tensor) else as_tensor(X)


def like_input(result: Tensor, X: Any) -> Any:
    """Return ``result`` as a tensor where the checked ``X`` is one, as an array otherwise."""
    if isinstance(X, Tensor):
        return result.to(X.device)
    return result.cpu().numpy()
