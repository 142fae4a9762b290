"""Arrays, frames and tensors in; the caller's kind back out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data
from torch import Tensor

from sklearn_torch_gmm.rows.checks import FLOAT_TYPES
from sklearn_torch_gmm.rows.tensors import as_tensor

PART_VALUES = 2**20
"""Numbers of the data that are looked at together for one that is not finite."""


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
        return _validate_array(estimator, X, reset, ensure_min_samples)
    X = X.detach()
    if X.layout is not torch.strided or X.is_quantized or X.is_meta:
        what = "no values" if X.is_meta else f"the layout {X.layout} and the type {X.dtype}"
        msg = f"X must be a dense tensor of numbers, but this one has {what}."
        raise TypeError(msg)
    if not X.is_floating_point():
        if X.is_complex():
            msg = "Complex data not supported: got a tensor of complex numbers."
            raise ValueError(msg)
        X = X.double()
    elif X.dtype not in (torch.float32, torch.float64):
        X = X.float()
    if X.device.type == "cpu":
        return torch.from_numpy(_validate_array(estimator, X.numpy(), reset, ensure_min_samples))
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
        msg = f"Input X contains NaN or infinity.\n{_where(X.isfinite().all(1).cpu().numpy())}"
        raise ValueError(msg)
    return X


def _validate_array(
    estimator: BaseEstimator, X: Any, reset: bool, ensure_min_samples: int
) -> np.ndarray:
    """Let scikit-learn check an array, and name the row that it finds NaN or infinity in."""
    try:
        return validate_data(
            estimator, X, reset=reset, dtype=FLOAT_TYPES, ensure_min_samples=ensure_min_samples
        )
    except ValueError as error:
        if not any(f"contains {what}" in str(error) for what in ("NaN", "infinity")):
            raise
        finite = _finite_rows(X)
        if finite.all():
            # A type that has its own missing values, or numbers that float32 cannot hold.
            raise
        msg = f"{error}\n{_where(finite)}"
    raise ValueError(msg)


def _finite_rows(X: Any) -> np.ndarray:
    """Whether each row is finite, where NumPy can tell; a part of the rows at a time."""
    values = np.asarray(X)
    try:
        if values.dtype.kind != "f":
            values = values.astype(np.float64)
        size = max(1, PART_VALUES // values.shape[1])
        parts = [values[start : start + size] for start in range(0, len(values), size)]
        return np.concatenate([np.isfinite(part).all(axis=1) for part in parts])
    except (TypeError, ValueError):
        return np.array([True])


def _where(finite: np.ndarray) -> str:
    row, number = int(finite.argmin()), int((~finite).sum())
    others = f", the first of {number}" if number > 1 else ""
    return f"It is in row {row}{others}: leave it out, or replace the value."


def given(**arguments: Any) -> dict[str, Any]:
    """Return the arguments that are not None, for a method that need not know of the others."""
    return {name: value for name, value in arguments.items() if value is not None}


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
