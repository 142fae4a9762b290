"""Validation of initial parameters given by the user, with scikit-learn's messages.

Each function returns the checked value, and raises ValueError if it cannot be used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sklearn_torch_gmm._private_parts import InvalidParameterError
from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.em.strategies import check_has_all_samples
from sklearn_torch_gmm.em.threads import threads_for_work
from sklearn_torch_gmm.rows.checks import FloatArray, check_floats
from sklearn_torch_gmm.rows.sample_weight import come_with_rows, validate_weights
from sklearn_torch_gmm.rows.tensors import as_tensor


def check_shape(values: FloatArray, shape: tuple[int, ...], name: str) -> None:
    """Raise ValueError unless ``values`` have the shape."""
    if values.shape != shape:
        msg = f"The parameter '{name}' should have the shape of {shape}, but got {values.shape}"
        raise ValueError(msg)


def check_weights(weights: Any, num_components: int) -> FloatArray:
    """Return component probabilities ``[K]``, which must sum to one, as floats."""
    checked = check_floats(weights, "weights")
    check_shape(checked, (num_components,), "weights")
    if (checked < 0.0).any() or (checked > 1.0).any():
        # scikit-learn's message swaps the two values; programs match on it as it is.
        msg = (
            "The parameter 'weights' should be in the range [0, 1], but got max value "
            f"{checked.min():.5f}, min value {checked.max():.5f}"
        )
        raise ValueError(msg)
    total = checked.sum()
    if abs(1.0 - float(total)) > _tolerance(checked):
        msg = f"The parameter 'weights' should be normalized, but got sum(weights) = {total:.5f}"
        raise ValueError(msg)
    return checked


def check_means(means: Any, shape: tuple[int, int] | None = None) -> FloatArray:
    """Return means ``[K, D]`` as floats."""
    checked = check_floats(means, "means")
    if shape is not None:
        check_shape(checked, shape, "means")
    elif checked.ndim != 2:
        msg = f"The parameter 'means' should have the shape of (K, D), but got {checked.shape}"
        raise ValueError(msg)
    return checked


def check_positive_definite(
    values: Any, num_components: int, num_features: int, structure: CovarianceStructure, name: str
) -> FloatArray:
    """Return symmetric positive definite matrices, called ``name`` in messages."""
    checked = check_floats(values, name, allow_nd=True)
    check_shape(checked, structure.covariance_shape(num_components, num_features), name)
    if structure.has_independent_features:
        if (checked <= 0.0).any():
            msg = f"'{name}' should be positive"
            raise ValueError(msg)
        return checked
    scaled = _standardized(checked)
    if not _are_symmetric(scaled, _tolerance(checked)) or not _have_factors(scaled, structure):
        msg = f"'{name}' should be symmetric, positive-definite"
        raise ValueError(msg)
    return checked


def _are_symmetric(matrices: FloatArray, tolerance: float) -> bool:
    transposed = np.swapaxes(matrices, -2, -1)
    # Most are exactly so, which takes a tenth of the time to see.
    return np.array_equal(matrices, transposed) or np.allclose(matrices, transposed, atol=tolerance)


def _have_factors(matrices: FloatArray, structure: CovarianceStructure) -> bool:
    """Whether the factorization succeeds that a fit does with precisions."""
    with threads_for_work(matrices.size * matrices.shape[-1]):
        try:
            structure.precisions_cholesky_from_precisions(as_tensor(matrices))
        except torch.linalg.LinAlgError:
            return False
    return True


def _tolerance(values: FloatArray) -> float:
    # scikit-learn's values: eight times the unit roundoff of float32, and in float64 the error of
    # rounding to eight decimals. Twice as much would accept the same input in practice.
    return 1e-6 if values.dtype == np.float32 else 1e-8


def _standardized(matrices: FloatArray) -> npt.NDArray[np.float64]:
    """Scale features to variances near one, by powers of two.

    Entries of features in any units are then compared alike. No entry is rounded, and a
    factorization succeeds where that of the matrices themselves does.
    """
    matrices = matrices.astype(np.float64)
    variances = np.diagonal(matrices, axis1=-2, axis2=-1)
    _, exponents = np.frexp(np.where(variances > 0.0, variances, 1.0))
    halves = -(exponents // 2)
    return np.ldexp(np.ldexp(matrices, halves[..., :, None]), halves[..., None, :])


def check_strategy(strategy: Any, num_components: int, name: str) -> Any:
    """Return labels ``[N]`` or responsibilities ``[N, K]`` as arrays, other strategies unchanged.

    ``name`` is that of the parameter in the public class.
    """
    if isinstance(strategy, str) or callable(strategy):
        return strategy
    try:
        checked = check_floats(strategy, name, allow_nd=True)
    except InvalidParameterError as error:
        msg = f"{error}. np.unique(labels, return_inverse=True)[1] numbers labels that are names."
        raise InvalidParameterError(msg) from error
    if checked.ndim == 1:
        return check_labels(checked, num_components)
    if checked.shape[1:] != (num_components,):
        msg = (
            "An array as initialization must hold labels of shape (N,) or responsibilities of "
            f"shape (N, K) with K = {num_components}, got shape {checked.shape}."
        )
        raise ValueError(msg)
    if (checked < 0).any() or not np.allclose(checked.sum(1), 1.0):
        msg = "Initial responsibilities must not be negative, and must sum to one for each sample."
        raise ValueError(msg)
    return checked


def of_positive_weight(strategy: Any, sample_weight: Any) -> Any:
    """Return an initialization by an array ``[N, ...]`` for the samples of positive weight.

    Other strategies are returned unchanged, and an array, too, if the weights come with the data.

    Raises
    ------
    ValueError
        If the numbers of values and of weights differ.
    """
    is_array = not (isinstance(strategy, str) or callable(strategy))
    if not is_array or sample_weight is None or come_with_rows(sample_weight):
        return strategy
    weights = validate_weights(sample_weight, len(sample_weight))
    check_has_all_samples(strategy, len(weights))
    return strategy[weights > 0]


def check_labels(labels: npt.NDArray[Any], num_components: int) -> npt.NDArray[np.int64]:
    """Return labels ``[N]`` as integers from 0 to K − 1, or −1 where the component is unknown."""
    integers = labels.astype(np.int64)
    if (integers != labels).any() or (integers < -1).any() or (integers >= num_components).any():
        msg = (
            f"Initial labels must be integers from 0 to {num_components - 1}, or -1 for "
            f"unknown, got values from {labels.min():g} to {labels.max():g}."
        )
        raise ValueError(msg)
    return integers
