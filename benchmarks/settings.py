"""What a fit is given, in the same words for all libraries."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Settings:
    """A fit; a setting that is None stays at the library's default.

    Attributes
    ----------
    weights : ndarray [K]
    means : ndarray [K, D]
    covariances, precisions : ndarray, in scikit-learn's shape for the covariance type
    iterations : int
        Exactly so many, however little they change.
    """

    components: int
    covariance: str
    weights: np.ndarray | None = None
    means: np.ndarray | None = None
    covariances: np.ndarray | None = None
    precisions: np.ndarray | None = None
    iterations: int | None = None
    regularization: float | None = None
    batch_size: int | None = None
