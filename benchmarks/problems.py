"""The same rows and the same start for everyone, from a seed and NumPy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.cases import Case

_BLOCK = 100_000


@dataclass(frozen=True)
class Problem:
    """Rows, and parameters to start from; all arrays of one dtype.

    Attributes
    ----------
    X : ndarray [N, D]
    weights : ndarray [K]
    means : ndarray [K, D]
    covariances, precisions : ndarray, in scikit-learn's shape for the covariance type
    """

    case: Case
    covariance: str
    X: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    precisions: np.ndarray

    @property
    def head(self) -> np.ndarray:
        """Rows to warm up with: enough of them that every covariance can be estimated."""
        return self.X[: max(5_000, 100 * self.case.components)]


def make_problem(case: Case, covariance: str, dtype: str, rows: int | None = None) -> Problem:
    """Rows drawn from a mixture, and that mixture, moved a little, as the start.

    `rows` replaces the case's number of rows.
    """
    if case.name == "iris":
        return _iris(case, covariance, dtype)
    rng = np.random.default_rng(20)
    components, features = case.components, case.features
    # Three widths apart: the components overlap, and EM is not done after a few iterations.
    means = rng.normal(scale=3 / np.sqrt(2 * features), size=(components, features))
    factors = np.stack([_factor(rng, features, case.condition) for _ in range(components)])
    X = _draw(rng, means, factors, rows or case.rows, dtype)
    # A step of a third of a component's width, in its own metric: nothing collapses.
    noise = rng.normal(size=(components, features, 1)) / 3
    start = means + (factors @ noise)[..., 0]
    covariances = factors @ factors.transpose(0, 2, 1)
    return _problem(case, covariance, X, start, covariances)


def _factor(rng: np.random.Generator, features: int, condition: float) -> np.ndarray:
    """C with C Cᵀ a covariance of that condition number and a largest variance of one."""
    rotation, _ = np.linalg.qr(rng.normal(size=(features, features)))
    return rotation * np.logspace(0, -0.5 * np.log10(condition), features)


def _draw(
    rng: np.random.Generator, means: np.ndarray, factors: np.ndarray, rows: int, dtype: str
) -> np.ndarray:
    X = np.empty((rows, means.shape[1]), dtype)
    # Block by block: what is measured later must not hide below a peak of this.
    for begin in range(0, rows, _BLOCK):
        block = X[begin : begin + _BLOCK]
        labels = rng.integers(len(means), size=len(block))
        noise = rng.normal(size=block.shape)
        for k, (mean, factor) in enumerate(zip(means, factors, strict=True)):
            chosen = labels == k
            block[chosen] = noise[chosen] @ factor.T + mean
    return X


def _iris(case: Case, covariance: str, dtype: str) -> Problem:
    from sklearn.datasets import load_iris

    X, labels = load_iris(return_X_y=True)
    classes = [X[labels == k] for k in range(3)]
    means = np.stack([part.mean(0) for part in classes]) + 0.1
    covariances = np.stack([np.cov(part.T, bias=True) for part in classes])
    return _problem(case, covariance, X.astype(dtype), means, covariances)


def _problem(
    case: Case, covariance: str, X: np.ndarray, means: np.ndarray, matrices: np.ndarray
) -> Problem:
    diagonals = matrices.diagonal(axis1=1, axis2=2)
    covariances = {
        "full": lambda: matrices,
        "tied": lambda: matrices.mean(0),
        "diag": lambda: diagonals.copy(),
        "spherical": lambda: diagonals.mean(1),
    }[covariance]()
    is_matrix = covariance in ("full", "tied")
    precisions = np.linalg.inv(covariances) if is_matrix else 1 / covariances
    if is_matrix:
        precisions = (precisions + np.swapaxes(precisions, -1, -2)) / 2
    weights = np.full(case.components, 1 / case.components)
    start = (array.astype(X.dtype) for array in (weights, means, covariances, precisions))
    return Problem(case, covariance, X, *start)
