"""Validation of arrays, data frames and tensors, and results in the type of the input."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn import get_config
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data
from torch import Tensor

from sklearn_torch_gmm._estimator.missing import takes_gaps
from sklearn_torch_gmm._estimator.vocabulary import Vocabulary
from sklearn_torch_gmm.rows.checks import FLOAT_TYPES, needs_no_check
from sklearn_torch_gmm.rows.kinds import is_read_in_pieces
from sklearn_torch_gmm.rows.not_tables import refuse_what_is_not_a_table
from sklearn_torch_gmm.rows.tensors import as_tensor

PART_VALUES = 2**20
"""Number of values that are searched at a time for the first one that is not finite.

Their mask takes 1 MiB; twice as many would take twice the memory and the same time.
"""


def check_in_memory(
    estimator: BaseEstimator, X: Any, advice: str = "pass its samples as an array or a tensor"
) -> None:
    """Raise TypeError, with an advice, for data that are read in batches."""
    if not is_read_in_pieces(X):
        return
    if hasattr(X, "obsm"):
        advice = "pass adata.X, or one of adata.obsm"
    msg = (
        f"{type(estimator).__name__} takes samples in memory, or in a mapped file of floats, got a "
        f"{type(X).__name__}: {advice}."
    )
    raise TypeError(msg)


def validate_rows(
    estimator: BaseEstimator, X: Any, *, reset: bool, ensure_min_samples: int = 1
) -> Any:
    """Return data ``[N, D]`` as float32 or float64; a tensor remains one, on its device.

    With ``reset``, the estimator records the number and names of the features; otherwise ``X`` must
    match them. ValueError is raised unless ``X`` is a finite real matrix of that many columns; NaN
    is allowed if the estimator has ``missing="em"``.
    """
    if not isinstance(X, Tensor):
        if hasattr(X, "collect") and not hasattr(X, "__array__"):
            msg = f"A {type(X).__name__} is a query that has not been run: pass X.collect()."
            raise TypeError(msg)
        return _validate_array(estimator, X, reset, ensure_min_samples)
    X = X.detach()
    if X.layout is not torch.strided or X.is_quantized or X.is_meta:
        found = "no values" if X.is_meta else f"the layout {X.layout} and the type {X.dtype}"
        msg = f"X must be a dense tensor of numbers, but this one has {found}."
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
    # scikit-learn checks the shape of a broadcast array, which spares a copy from the GPU.
    check_array(
        np.broadcast_to(np.float32(0), X.shape),
        input_name="X",
        ensure_min_samples=ensure_min_samples,
        estimator=estimator,
    )
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    # The sum is not finite if any value is not, and takes less memory than a mask of all values.
    if not X.sum(dtype=torch.float64).isfinite():
        is_usable, kind = X.isfinite(), "NaN or infinity"
        if takes_gaps(estimator):
            is_usable, kind = ~X.isinf(), "infinity"
        if not is_usable.all():
            remedy = _remedy(estimator, is_nan=bool(X.isnan().any()))
            msg = f"Input X contains {kind}.\n{_where(is_usable.all(1).cpu().numpy())} {remedy}"
            raise ValueError(msg)
    return X


def _validate_array(
    estimator: BaseEstimator, X: Any, reset: bool, ensure_min_samples: int
) -> np.ndarray:
    """Validate an array by scikit-learn, and name the sample in an error about NaN or infinity."""
    if needs_no_check(X) and X.ndim == 2 and len(X) >= ensure_min_samples:
        if reset:
            estimator.n_features_in_ = X.shape[1]
            vars(estimator).pop("feature_names_in_", None)
            return X
        has_names = hasattr(estimator, "feature_names_in_")
        if vars(estimator).get("n_features_in_") == X.shape[1] and not has_names:
            return X
    refuse_what_is_not_a_table(X)
    try:
        return validate_data(
            estimator,
            X,
            reset=reset,
            dtype=FLOAT_TYPES,
            ensure_min_samples=ensure_min_samples,
            ensure_all_finite="allow-nan" if takes_gaps(estimator) else True,
        )
    except ValueError as error:
        if "contains NaN" not in str(error) and "contains infinity" not in str(error):
            raise
        finite = _usable_rows(X, allow_missing=takes_gaps(estimator))
        if finite.all():
            # The dtype has its own missing values, or float32 cannot hold a value.
            raise
        found, _, advice = str(error).partition("\n")
        remedy = _remedy(estimator, is_nan="contains NaN" in found)
        if advice and not hasattr(estimator, "missing"):
            # scikit-learn's advice begins with "the class does not accept missing values".
            found = f"{found}\n{advice}"
        msg = f"{found}\n{_where(finite)} {remedy}"
    raise ValueError(msg)


def _usable_rows(X: Any, *, allow_missing: bool) -> np.ndarray:
    """Whether each row is finite, or free of infinities; a single True if it is unknown."""

    def are_usable(part: np.ndarray) -> np.ndarray:
        is_usable = ~np.isinf(part) if allow_missing else np.isfinite(part)
        return is_usable.all(axis=1)

    try:
        # Frames convert missing values of their own, such as pandas.NA, to NaN.
        is_frame = hasattr(X, "dtypes") and hasattr(X, "astype")
        values = np.asarray(X.astype(np.float64) if is_frame else X)
        if values.dtype.kind != "f":
            values = values.astype(np.float64)
        size = max(1, PART_VALUES // values.shape[1])
        parts = [values[start : start + size] for start in range(0, len(values), size)]
        return np.concatenate([are_usable(part) for part in parts])
    except (TypeError, ValueError):
        return np.array([True])


def _where(finite: np.ndarray) -> str:
    sample, number = int(finite.argmin()), int((~finite).sum())
    others = f", the first of {number}" if number > 1 else ""
    return f"It is in sample {sample}{others}:"


def _remedy(estimator: BaseEstimator, *, is_nan: bool) -> str:
    if is_nan and hasattr(estimator, "missing") and not takes_gaps(estimator):
        return "leave it out, replace the value, or set missing='em' to use the observed values."
    return "leave it out, or replace the value."


def given(**arguments: Any) -> dict[str, Any]:
    """Return the arguments that are not None; the method of a subclass may lack the others."""
    return {name: value for name, value in arguments.items() if value is not None}


def numpy_dtype(X: Any) -> np.dtype[Any]:
    """Return the NumPy type of the values in validated data."""
    if isinstance(X, np.ndarray):
        return X.dtype
    return np.dtype(str(X.dtype).removeprefix("torch."))


def rows_of(X: Any) -> Tensor:
    """Return validated data as a tensor that shares their memory."""
    return X if isinstance(X, Tensor) else as_tensor(X)


def like_input(result: Tensor, device: torch.device | None, vocabulary: Vocabulary) -> Any:
    """Return ``result`` as a tensor on the device of the data, or as an array if that is None.

    For a CPU tensor scikit-learn returns an array unless array API dispatch is on. It does not
    accept tensors on an accelerator, for which this package returns tensors.
    """
    is_array = device is None or (
        vocabulary.answers_as_scikit_learn
        and device.type == "cpu"
        and not get_config()["array_api_dispatch"]
    )
    return result.cpu().numpy() if is_array else result.to(device)
