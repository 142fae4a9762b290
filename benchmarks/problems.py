"""The same data and the same initial parameters for all libraries, from a seed and NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.cases import Case

_BLOCK = 100_000


@dataclass(frozen=True)
class Problem:
    """Samples, and initial parameters; all arrays of one dtype.

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
    """Samples from a mixture, and that mixture, slightly changed, as initial parameters.

    `rows` replaces the case's number of rows.
    """
    if case.is_real:
        return _real(case, covariance, dtype)
    rng = np.random.default_rng(20)
    components, features = case.components, case.features
    # Three widths apart: the components overlap, and EM is not done after a few iterations.
    means = rng.normal(scale=3 / np.sqrt(2 * features), size=(components, features))
    factors = np.stack([_factor(rng, features, case.condition) for _ in range(components)])
    X = _draw(rng, means, factors, rows or case.rows, dtype)
    # A step of a third of a component's width, in its own metric: nothing collapses.
    noise = rng.normal(size=(components, features, 1)) / 3
    start = means + (factors @ noise)[..., 0]
    matrices = factors @ factors.transpose(0, 2, 1)
    weights = np.full(components, 1 / components)
    parameters = (weights, start, *_covariances(matrices, covariance))
    return Problem(case, covariance, X, *(array.astype(dtype) for array in parameters))


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


def _real(case: Case, covariance: str, dtype: str) -> Problem:
    """Real data, from their classes, each mean moved a little."""
    from sklearn import datasets

    name, _, width = case.name.rpartition("-") if case.name[-1].isdigit() else (case.name, "", "")
    X, labels = getattr(datasets, f"load_{name.replace('-', '_')}")(return_X_y=True)
    if width:
        from sklearn.decomposition import PCA

        X = PCA(int(width), random_state=0).fit_transform(X)
    weights, means, covariances, precisions = assigned_start(X, labels, covariance)
    start = (weights, means + 0.1, covariances, precisions)
    return Problem(case, covariance, *(array.astype(dtype) for array in (X, *start)))


def assigned_start(X: np.ndarray, labels: np.ndarray, covariance: str) -> tuple[np.ndarray, ...]:
    """Weights, means, covariances and precisions of samples with labels from 0 on."""
    parts = [X[labels == k] for k in range(labels.max() + 1)]
    weights = np.array([len(part) for part in parts]) / len(X)
    means = np.stack([part.mean(0) for part in parts])
    # Some clusters have one row.
    matrices = [np.cov(part.T, bias=True) + 1e-3 * np.eye(X.shape[1]) for part in parts]
    return weights, means, *_covariances(np.stack(matrices), covariance)


def _covariances(matrices: np.ndarray, covariance: str) -> tuple[np.ndarray, np.ndarray]:
    """Covariances and precisions in scikit-learn's shapes, from a matrix for each component."""
    diagonals = matrices.diagonal(axis1=1, axis2=2)
    covariances = {
        "full": lambda: matrices,
        "tied": lambda: matrices.mean(0),
        "diag": lambda: diagonals.copy(),
        "spherical": lambda: diagonals.mean(1),
    }[covariance]()
    if covariance not in ("full", "tied"):
        return covariances, 1 / covariances
    precisions = np.linalg.inv(covariances)
    return covariances, (precisions + np.swapaxes(precisions, -1, -2)) / 2
