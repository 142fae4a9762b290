"""The same data and the same initial parameters for all libraries, from a seed and NumPy only."""

from dataclasses import dataclass, replace

import numpy as np
from sklearn import datasets
from sklearn.decomposition import PCA

from benchmarks.cases import Case


@dataclass(frozen=True)
class Settings:
    """A fit, in the same words for all libraries; what is None stays at the library's default.

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


@dataclass(frozen=True)
class Problem:
    """Samples [N, D], and initial parameters of the same dtype."""

    case: Case
    X: np.ndarray
    start: Settings

    @property
    def head(self):
        """Samples to warm up with: enough of them that every covariance can be estimated."""
        return self.X[: max(5_000, 100 * self.case.components)]

    def fit_of(self, iterations):
        return replace(self.start, iterations=iterations)


def make_problem(case, covariance, dtype, rows=None):
    """Samples of a mixture, or real ones, and its parameters, slightly changed, to start from.

    `rows` replaces the case's number of rows.
    """
    X, *parameters = _real(case) if case.is_real else _drawn(case, rows or case.rows)
    return Problem(case, X.astype(dtype, copy=False), _start(covariance, *parameters, dtype))


def _drawn(case, rows):
    rng = np.random.default_rng(20)
    components, features = case.components, case.features
    # Three widths apart: the components overlap, and EM is not done after a few iterations.
    means = rng.normal(scale=3 / np.sqrt(2 * features), size=(components, features))
    factors = np.stack([_factor(rng, features, case.condition) for _ in range(components)])
    labels = rng.integers(components, size=rows)
    X = rng.normal(size=(rows, features))
    for k in range(components):
        X[labels == k] = X[labels == k] @ factors[k].T + means[k]
    # A step of a third of a component's width, in its own metric: nothing collapses.
    noise = rng.normal(size=(components, features, 1)) / 3
    means = means + (factors @ noise)[..., 0]
    return X, np.full(components, 1 / components), means, factors @ factors.transpose(0, 2, 1)


def _factor(rng, features, condition):
    """C with C Cᵀ a covariance of that condition number and a largest variance of one."""
    rotation, _ = np.linalg.qr(rng.normal(size=(features, features)))
    return rotation * np.logspace(0, -0.5 * np.log10(condition), features)


def _real(case):
    name = case.name.removesuffix(f"-{case.features}").replace("-", "_")
    X, labels = getattr(datasets, f"load_{name}")(return_X_y=True)
    if case.features < X.shape[1]:
        X = PCA(case.features, random_state=0).fit_transform(X)
    weights, means, matrices = _moments(X, labels)
    return X, weights, means + 0.1, matrices


def assigned_start(X, labels, covariance):
    """The parameters of samples with labels from 0 on."""
    return _start(covariance, *_moments(X, labels))


def _moments(X, labels):
    parts = [X[labels == k] for k in range(labels.max() + 1)]
    weights = np.array([len(part) for part in parts]) / len(X)
    # Some clusters have one row.
    matrices = [np.cov(part.T, bias=True) + 1e-3 * np.eye(X.shape[1]) for part in parts]
    return weights, np.stack([part.mean(0) for part in parts]), np.stack(matrices)


def _start(covariance, weights, means, matrices, dtype="float64"):
    covariances = in_shape(covariance, weights, matrices)
    if covariance in ("full", "tied"):
        precisions = np.linalg.inv(covariances)
        precisions = (precisions + np.swapaxes(precisions, -1, -2)) / 2
    else:
        precisions = 1 / covariances
    arrays = (weights, means, covariances, precisions)
    return Settings(len(weights), covariance, *(array.astype(dtype) for array in arrays))


def in_shape(covariance, weights, matrices):
    """Covariances of a type, in scikit-learn's shape, from a matrix for each component."""
    if covariance == "full":
        return matrices
    if covariance == "tied":
        return np.einsum("k,kij->ij", weights, matrices)
    variances = matrices.diagonal(axis1=1, axis2=2)
    return variances.copy() if covariance == "diag" else variances.mean(1)
