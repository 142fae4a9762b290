"""How the covariances of each structure look as matrices, and the most likely of them, by NumPy."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Family(NamedTuple):
    """The dense equal of a structure."""

    dense: Callable[[np.ndarray, int, int], np.ndarray]
    """Covariance matrices [K, D, D] of covariances in the structure's shape, K and D."""

    project: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """Most likely covariances, from matrices [K, D, D] and the components' shares [K]."""


FAMILIES = {
    "full": Family(
        dense=lambda covariances, components, features: covariances,
        project=lambda within, shares: within,
    ),
    "tied": Family(
        dense=lambda covariances, components, features: np.stack([covariances] * components),
        project=lambda within, shares: np.einsum("k,kij->ij", shares, within),
    ),
    "diag": Family(
        dense=lambda covariances, components, features: np.stack([np.diag(v) for v in covariances]),
        project=lambda within, shares: np.stack([np.diag(matrix) for matrix in within]),
    ),
    "spherical": Family(
        dense=lambda covariances, components, features: (
            covariances[:, None, None] * np.eye(features)
        ),
        project=lambda within, shares: np.trace(within, axis1=1, axis2=2) / within.shape[1],
    ),
}
"""Of the structures in the package; a structure in a test brings its own."""
