"""What a Gaussian mixture is, by NumPy loops and scipy: slow, and short enough to be believed.

Here a mixture has a dense covariance matrix for each component, whatever its structure.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from tests.core.families import FAMILIES


class Mixture(NamedTuple):
    weights: np.ndarray
    """[K]"""
    means: np.ndarray
    """[K, D]"""
    matrices: np.ndarray
    """[K, D, D]"""


class WeightedSums(NamedTuple):
    counts: np.ndarray
    """[K]"""
    means: np.ndarray
    """[K, D]"""
    within: np.ndarray
    """Covariance matrix of the rows of each component: [K, D, D]"""

    @property
    def weights(self) -> np.ndarray:
        return self.counts / self.counts.sum()


def random_matrices(rng: np.random.Generator, components: int, features: int) -> np.ndarray:
    """Covariance matrices whose condition number stays below about a hundred."""
    roots = rng.standard_normal((components, features, 2 * features + 2))
    scales = rng.uniform(0.5, 2.0, size=(components, 1, 1))
    return scales * (roots @ roots.transpose(0, 2, 1) / (2 * features + 2) + 0.1 * np.eye(features))


def draw_rows(rng: np.random.Generator, mixture: Mixture, num_rows: int) -> np.ndarray:
    labels = rng.choice(len(mixture.weights), size=num_rows, p=mixture.weights)
    lower = np.linalg.cholesky(mixture.matrices)
    noise = rng.standard_normal((num_rows, mixture.means.shape[1]))
    return mixture.means[labels] + np.einsum("nij,nj->ni", lower[labels], noise)


def joint_log_densities(mixture: Mixture, rows: np.ndarray) -> np.ndarray:
    """Log π_k + log N(x | μ_k, Σ_k): [K, N]."""
    return np.stack(
        [
            np.log(weight) + np.atleast_1d(multivariate_normal(mean, matrix).logpdf(rows))
            for weight, mean, matrix in zip(*mixture, strict=True)
        ]
    )


def log_densities(mixture: Mixture, rows: np.ndarray) -> np.ndarray:
    """Log p(x): [N]."""
    return logsumexp(joint_log_densities(mixture, rows), axis=0)


def responsibilities(mixture: Mixture, rows: np.ndarray) -> np.ndarray:
    """p(component | x): [K, N]."""
    return np.exp(joint_log_densities(mixture, rows) - log_densities(mixture, rows))


def weighted_sums(
    rows: np.ndarray, shares: np.ndarray, sample_weight: np.ndarray | None = None
) -> WeightedSums:
    """Weight, mean and covariance of the rows of each component, with shares [K, N]."""
    if sample_weight is not None:
        shares = shares * sample_weight
    features = rows.shape[1]
    counts, means, within = [], [], []
    for share in shares:
        count, total, scatter = 0.0, np.zeros(features), np.zeros((features, features))
        for part, row in zip(share, rows, strict=True):
            count += part
            total += part * row
        mean = total / count
        for part, row in zip(share, rows, strict=True):
            scatter += part * np.outer(row - mean, row - mean)
        counts.append(count)
        means.append(mean)
        within.append(scatter / count)
    return WeightedSums(np.array(counts), np.array(means), np.array(within))


def with_structure(name: str, mixture: Mixture, weights: np.ndarray) -> Mixture:
    """The likeliest covariances of a structure where components of such weights have these."""
    family = FAMILIES[name]
    covariances = family.project(mixture.matrices, weights / weights.sum())
    return mixture._replace(matrices=family.dense(covariances, *mixture.means.shape))


Fixed = Collection[str] | Mapping[str, Collection[int]]
"""Names of parts, or the components of each part that stay."""


def stays(fixed: Fixed, part: str, components: int) -> np.ndarray:
    """Whether the part of each component stays: [K]."""
    if not isinstance(fixed, Mapping):
        return np.full(components, part in fixed)
    return np.isin(np.arange(components), list(fixed.get(part, ())))


def beside_fixed(
    name: str,
    before: Mixture,
    sums: WeightedSums,
    fixed: Fixed,
    regularization: float = 0.0,
) -> Mixture:
    """The likeliest mixture of rows with these sums, beside the fixed parts of the one before."""
    weights, means, covariances = (
        stays(fixed, part, len(sums.counts)) for part in ("weights", "means", "covariances")
    )
    kept_means = np.where(means[:, None], before.means, sums.means)
    apart = sums.means - kept_means
    about_means = sums.within + np.einsum("ki,kj->kij", apart, apart)
    result = with_structure(name, Mixture(sums.weights, kept_means, about_means), sums.counts)
    matrices = result.matrices + regularization * np.eye(kept_means.shape[1])
    matrices = np.where(covariances[:, None, None], before.matrices, matrices)
    shared = before.weights.copy()
    if not weights.all():
        rest = 1.0 - before.weights[weights].sum()
        shared[~weights] = rest * sums.counts[~weights] / sums.counts[~weights].sum()
    return Mixture(shared, kept_means, matrices)


def moved(
    name: str,
    mixture: Mixture,
    rows: np.ndarray,
    sample_weight: np.ndarray,
    step_size: float,
    regularization: float = 0.0,
    fixed: Fixed = (),
) -> Mixture:
    """A step of stepwise EM: s ← (1 − γ) s + γ ŝ with s = (π, π μ, π (Σ + μ μᵀ)), and back."""
    share = sample_weight / sample_weight.sum()
    new = responsibilities(mixture, rows) * share
    old_matrices = mixture.matrices - regularization * np.eye(rows.shape[1])
    counts, means, matrices = [], [], []
    for k, (weight, mean) in enumerate(zip(mixture.weights, mixture.means, strict=True)):
        count = (1 - step_size) * weight + step_size * new[k].sum()
        first = (1 - step_size) * weight * mean + step_size * new[k] @ rows
        old_second = weight * (old_matrices[k] + np.outer(mean, mean))
        second = (1 - step_size) * old_second + step_size * (new[k] * rows.T) @ rows
        counts.append(count)
        means.append(first / count)
        matrices.append(second / count - np.outer(means[-1], means[-1]))
    sums = WeightedSums(np.array(counts), np.array(means), np.array(matrices))
    return beside_fixed(name, mixture, sums, fixed, regularization)
