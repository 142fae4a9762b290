"""The same data and the same initial parameters for all libraries, from a seed and NumPy only."""

from dataclasses import dataclass, replace

import numpy as np
from sklearn import datasets
from sklearn.decomposition import PCA

from benchmarks.cases import Case
from benchmarks.settings import Settings

_BLOCK = 100_000


@dataclass(frozen=True)
class Problem:
    """Samples [N, D], and initial parameters of the same dtype."""

    case: Case
    X: np.ndarray
    start: Settings

    @property
    def head(self) -> np.ndarray:
        """Rows to warm up with: enough of them that every covariance can be estimated."""
        return self.X[: max(5_000, 100 * self.case.components)]

    def fit_of(self, iterations: int) -> Settings:
        return replace(self.start, iterations=iterations)


def make_problem(case: Case, covariance: str, dtype: str, rows: int | None = None) -> Problem:
    """Samples from a mixture, and that mixture, slightly changed, as initial parameters.

    `rows` replaces the case's number of rows.
    """
    if case.is_real:
        X, start = _real(case, covariance)
    else:
        X, start = _drawn(case, covariance, dtype, rows or case.rows)
    names = ("weights", "means", "covariances", "precisions")
    parameters = {name: getattr(start, name).astype(dtype) for name in names}
    return Problem(case, X.astype(dtype, copy=False), replace(start, **parameters))


def _drawn(case: Case, covariance: str, dtype: str, rows: int) -> tuple[np.ndarray, Settings]:
    rng = np.random.default_rng(20)
    components, features = case.components, case.features
    # Three widths apart: the components overlap, and EM is not done after a few iterations.
    means = rng.normal(scale=3 / np.sqrt(2 * features), size=(components, features))
    factors = np.stack([_factor(rng, features, case.condition) for _ in range(components)])
    X = _draw(rng, means, factors, rows, dtype)
    # A step of a third of a component's width, in its own metric: nothing collapses.
    noise = rng.normal(size=(components, features, 1)) / 3
    start = means + (factors @ noise)[..., 0]
    matrices = factors @ factors.transpose(0, 2, 1)
    weights = np.full(components, 1 / components)
    return X, _settings(covariance, weights, start, matrices)


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


def _real(case: Case, covariance: str) -> tuple[np.ndarray, Settings]:
    """Real data, from their classes, each mean moved a little."""
    name = case.name.removesuffix(f"-{case.features}").replace("-", "_")
    X, labels = getattr(datasets, f"load_{name}")(return_X_y=True)
    if case.features < X.shape[1]:
        X = PCA(case.features, random_state=0).fit_transform(X)
    start = assigned_start(X, labels, covariance)
    return X, replace(start, means=start.means + 0.1)


def assigned_start(X: np.ndarray, labels: np.ndarray, covariance: str) -> Settings:
    """The parameters of samples with labels from 0 on."""
    parts = [X[labels == k] for k in range(labels.max() + 1)]
    weights = np.array([len(part) for part in parts]) / len(X)
    means = np.stack([part.mean(0) for part in parts])
    # Some clusters have one row.
    matrices = [np.cov(part.T, bias=True) + 1e-3 * np.eye(X.shape[1]) for part in parts]
    return _settings(covariance, weights, means, np.stack(matrices))


def _settings(
    covariance: str, weights: np.ndarray, means: np.ndarray, matrices: np.ndarray
) -> Settings:
    covariances = in_shape(covariance, weights, matrices)
    if covariance in ("full", "tied"):
        precisions = np.linalg.inv(covariances)
        precisions = (precisions + np.swapaxes(precisions, -1, -2)) / 2
    else:
        precisions = 1 / covariances
    return Settings(len(weights), covariance, weights, means, covariances, precisions)


def in_shape(covariance: str, weights: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Covariances of a type, in scikit-learn's shape, from a matrix for each component."""
    variances = matrices.diagonal(axis1=1, axis2=2)
    return {
        "full": lambda: matrices,
        "tied": lambda: np.einsum("k,kij->ij", weights, matrices),
        "diag": lambda: variances.copy(),
        "spherical": lambda: variances.mean(1),
    }[covariance]()
