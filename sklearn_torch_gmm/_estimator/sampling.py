"""Sampling from a fitted mixture, with scikit-learn's random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sklearn_torch_gmm._estimator.inference import check_covariance_type
from sklearn_torch_gmm.core.covariance import get_structure
from sklearn_torch_gmm.rows.tensors import as_tensor

MOST_EXCESS = 1e-12
"""Excess above one that NumPy allows a sum of probabilities."""


def sample(self, n_samples: int = 1) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Draw samples from the fitted mixture, with the random numbers that scikit-learn draws.

    Parameters
    ----------
    n_samples : int, default=1
        N, the number of samples.

    Returns
    -------
    X : ndarray of shape (N, D)
        Sorted by component.
    y : ndarray of shape (N,)
        The component of each sample.

    Raises
    ------
    ValueError
        If `n_samples` is less than 1.

    Examples
    --------
    >>> from sklearn_torch_gmm.mixture import GaussianMixture
    >>> mixture = GaussianMixture.from_parameters(
    ...     [0.5, 0.5], [[0], [4]], [[[1]], [[1]]]
    ... )
    >>> X, y = mixture.sample(3)
    >>> X.shape, y.shape
    ((3, 1), (3,))
    """
    check_is_fitted(self)
    # scikit-learn accepts 3.0, too.
    if not isinstance(n_samples, (int, float, np.number)) or n_samples % 1 != 0:
        msg = f"Invalid value for 'n_samples': must be an integer, got {n_samples!r}."
        raise ValueError(msg)
    if n_samples < 1:
        msg = (
            f"Invalid value for 'n_samples': {n_samples} . The sampling requires at least one "
            "sample."
        )
        raise ValueError(msg)
    return draw(self, int(n_samples))


def draw(
    mixture: BaseEstimator, num_rows: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Draw samples ``[N, D]`` and their components ``[N]`` as scikit-learn does."""
    check_covariance_type(mixture)
    random_state = check_random_state(mixture.random_state)
    weights = np.asarray(mixture.weights_).astype(np.float64)
    if weights[:-1].sum() > 1.0 + MOST_EXCESS:
        # NumPy would refuse this sum. Weights from float32 sum to one only in float32.
        weights /= weights.sum()
    counts = random_state.multinomial(num_rows, weights)
    parts = [
        _draw_component(mixture, random_state, component, int(count))
        for component, count in enumerate(counts)
    ]
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    return np.vstack(parts), labels


def _draw_component(
    mixture: BaseEstimator, random_state: np.random.RandomState, component: int, num_rows: int
) -> np.ndarray[Any, Any]:
    structure, mean = get_structure(mixture.covariance_type), mixture.means_[component]
    covariances, sizes = as_tensor(mixture.covariances_), mixture.means_.shape
    if structure.has_independent_features:
        variances = structure.variances(covariances, *sizes)[component].numpy()
        noise = random_state.standard_normal(size=(num_rows, sizes[1]))
        return np.asarray(mean + noise * np.sqrt(variances))
    matrix = structure.matrices(covariances, *sizes)[component].numpy()
    return random_state.multivariate_normal(mean, matrix, num_rows)
