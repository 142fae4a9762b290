"""Whether parameters are those of a mixture, and how far they are from the known ones.

Distances are in standard deviations: `whole_*` between the samples and the mixture as a whole, the
others between the groups and the components.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from benchmarks.peers.base import Fitted
from benchmarks.problems import in_shape
from benchmarks.robustness.inputs import Data

Facts = dict[str, float | bool | None]


@dataclass(frozen=True)
class Mixture:
    """What was fitted, in float64: weights [K], means [K, D] and covariances [K, D, D].

    `covariance` is their type, `added` the regularization that is in them.
    """

    weights: np.ndarray
    means: np.ndarray
    matrices: np.ndarray
    covariance: str
    added: float


def examine(fitted: Fitted, data: Data, covariance: str, regularization: float) -> Facts:
    """What the rules of the endings decide by."""
    weights, means, covariances = (np.asarray(v, dtype=np.float64) for v in fitted[:3])
    dense = _dense(covariances, covariance, (*means.shape, means.shape[1]))
    is_finite = all(np.isfinite(values).all() for values in (weights, means, dense))
    facts: Facts = {"converged": fitted.converged, "finite": bool(is_finite)}
    if not is_finite:
        return facts
    facts["weights_sum"] = float(weights.sum())
    if dense.shape[1] <= 100:
        facts["smallest_eigenvalue"] = float(np.linalg.eigvalsh(dense).min())
    mixture = Mixture(weights, means, dense, covariance, regularization)
    with np.errstate(all="ignore"):
        X = np.asarray(data.X, dtype=np.longdouble)
        facts |= _whole(mixture, X)
        if data.groups is not None:
            facts |= _groups(mixture, X, data.groups)
    return facts


def _whole(mixture: Mixture, X: np.ndarray) -> Facts:
    """The distance of the mean and the variances of the mixture from those of the samples."""
    center = X.mean(0)
    expected = X.var(0) + mixture.added
    shares = mixture.weights.astype(np.longdouble) / mixture.weights.sum()
    means = mixture.means - center
    offset = shares @ means
    variances = np.einsum("kii->ki", mixture.matrices)
    actual = shares @ (variances + means**2) - offset**2
    # Rows without any spread, and nothing added, leave rounding as the only measure.
    unit = np.sqrt(np.maximum(expected, (1e-10 * np.abs(X).max()) ** 2))
    if mixture.covariance == "spherical":
        # One variance for all features: only their sum is known.
        spread = np.abs(actual.sum() - expected.sum()) / (unit**2).sum()
    else:
        spread = np.abs(actual - expected) / unit**2
    return {
        "whole_mean": float(np.abs(offset / unit).max()),
        "whole_variance": float(spread.max()),
    }


def _groups(mixture: Mixture, X: np.ndarray, groups: np.ndarray) -> Facts:
    """The largest distance of a component from the group that it stands for."""
    shares = np.bincount(groups) / len(groups)
    members = [X[groups == k] for k in range(len(shares))]
    centers = np.stack([rows.mean(0) for rows in members])
    expected = _expected_covariances(members, shares, mixture)
    try:
        factors = np.linalg.cholesky(expected)
    except np.linalg.LinAlgError:
        # Without regularization there is no such mixture.
        return {}
    distances = (np.abs(mixture.means[:, np.newaxis] - centers) ** 2).sum(-1)
    component, group = linear_sum_assignment(distances.astype(np.float64))
    factors = factors[group]
    offset = (mixture.means[component] - centers[group]).astype(np.float64)
    step = np.linalg.solve(factors, offset[..., np.newaxis])
    half = np.linalg.solve(factors, mixture.matrices[component] - expected[group])
    ratio = np.linalg.solve(factors, half.swapaxes(1, 2))
    return {
        "group_weight": float(np.abs(mixture.weights[component] - shares[group]).max()),
        "group_mean": float(np.abs(step).max()),
        "group_covariance": float(np.abs(ratio).max()),
    }


def _expected_covariances(
    members: list[np.ndarray], shares: np.ndarray, mixture: Mixture
) -> np.ndarray:
    """The covariances of groups that a mixture of this type has, regularization included."""
    # Centred in extended precision; the products of centred rows need no more than float64.
    centred = [(rows - rows.mean(0)).astype(np.float64) for rows in members]
    matrices = np.stack([rows.T @ rows / len(rows) for rows in centred])
    covariances = in_shape(mixture.covariance, shares, matrices)
    dense = _dense(covariances, mixture.covariance, matrices.shape)
    return dense + mixture.added * np.eye(matrices.shape[1])


def _dense(covariances: np.ndarray, covariance: str, shape: tuple[int, ...]) -> np.ndarray:
    """Every component's covariance as a matrix, of a shape [K, D, D]."""
    if covariance not in ("full", "tied"):
        # Variances [K] or [K, D], with as many axes as the matrices.
        covariances = covariances.reshape(shape[0], -1, 1) * np.eye(shape[1])
    return np.broadcast_to(covariances, shape)
