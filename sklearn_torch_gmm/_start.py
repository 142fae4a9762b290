"""Checks of starting parameters that a user gives, with scikit-learn's messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils import check_array
from torch import Tensor

from sklearn_torch_gmm._validation import FLOAT_TYPES
from sklearn_torch_gmm.core.covariance import CovarianceStructure

FloatArray = npt.NDArray[np.floating[Any]]


def _check_floats(values: Any, name: str, **options: Any) -> FloatArray:
    if isinstance(values, Tensor):
        # With scikit-learn's `array_api_dispatch`, `check_array` would keep it one.
        values = values.detach().cpu().numpy()
    checked: FloatArray = check_array(
        values, dtype=FLOAT_TYPES, ensure_2d=False, input_name=name, **options
    )
    return checked


def check_shape(values: FloatArray, shape: tuple[int, ...], name: str) -> None:
    """Raise ValueError unless ``values`` have the shape."""
    if values.shape != shape:
        msg = f"The parameter '{name}' should have the shape of {shape}, but got {values.shape}"
        raise ValueError(msg)


def check_weights(weights: Any, num_components: int) -> FloatArray | None:
    """Return component probabilities ``[K]`` as floats, None for None.

    Raises
    ------
    ValueError
        If they are not probabilities that sum to one.
    """
    if weights is None:
        return None
    checked = _check_floats(weights, "weights")
    check_shape(checked, (num_components,), "weights")
    if (checked < 0.0).any() or (checked > 1.0).any():
        # scikit-learn's message has the two the wrong way round; programs match on it as it is.
        msg = (
            "The parameter 'weights' should be in the range [0, 1], but got max value "
            f"{checked.min():.5f}, min value {checked.max():.5f}"
        )
        raise ValueError(msg)
    total = checked.sum()
    if abs(1.0 - float(total)) > (1e-6 if checked.dtype == np.float32 else 1e-8):
        msg = f"The parameter 'weights' should be normalized, but got sum(weights) = {total:.5f}"
        raise ValueError(msg)
    return checked


def check_means(means: Any, shape: tuple[int, int]) -> FloatArray | None:
    """Return means ``[K, D]`` as floats, None for None.

    Raises
    ------
    ValueError
        If they have another shape.
    """
    if means is None:
        return None
    checked = _check_floats(means, "means")
    check_shape(checked, shape, "means")
    return checked


def check_precisions(
    precisions: Any, shape: tuple[int, ...], structure: CovarianceStructure
) -> FloatArray | None:
    """Return precisions in the shape of the covariances as floats, None for None.

    Raises
    ------
    ValueError
        If they have another shape, or are not symmetric and positive definite.
    """
    if precisions is None:
        return None
    checked = _check_floats(precisions, "precisions", allow_nd=True)
    check_shape(checked, shape, f"{structure.name} precision")
    if structure.has_independent_features:
        if (checked <= 0.0).any():
            msg = f"'{structure.name} precision' should be positive"
            raise ValueError(msg)
        return checked
    is_symmetric = np.allclose(checked, np.swapaxes(checked, -2, -1))
    smallest = structure.smallest_eigenvalues(torch.tensor(checked, dtype=torch.float64))
    if not is_symmetric or not (smallest > 0.0).all():
        msg = f"'{structure.name} precision' should be symmetric, positive-definite"
        raise ValueError(msg)
    return checked
