"""EM for rows with gaps by NumPy, row by row and component by component: NaN marks a gap."""

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from tests.core.oracle import Mixture, WeightedSums, with_structure


class Conditional(NamedTuple):
    """A row under one component, given the values that it has."""

    log_density: float
    """Of the observed values."""
    mean: np.ndarray
    """[D], with the observed values in their places."""
    covariance: np.ndarray
    """[D, D], zero where a value is observed."""


def conditional(row: np.ndarray, mean: np.ndarray, matrix: np.ndarray) -> Conditional:
    seen = ~np.isnan(row)
    completed, rest = np.where(seen, row, mean), np.zeros_like(matrix)
    rest[np.ix_(~seen, ~seen)] = matrix[np.ix_(~seen, ~seen)]
    if not seen.any():
        return Conditional(0.0, completed, rest)
    own, cross, apart = (
        matrix[np.ix_(seen, seen)],
        matrix[np.ix_(seen, ~seen)],
        row[seen] - mean[seen],
    )
    slopes = np.linalg.solve(own, cross).T
    completed[~seen] += slopes @ apart
    rest[np.ix_(~seen, ~seen)] -= slopes @ cross
    distance = apart @ np.linalg.solve(own, apart)
    # scipy's multivariate_normal takes ten times as long.
    log_density = -0.5 * (seen.sum() * np.log(2 * np.pi) + np.linalg.slogdet(own)[1] + distance)
    return Conditional(log_density, completed, rest)


class Expected(NamedTuple):
    """What rows are under a mixture, given the values that they have."""

    components: list[list[Conditional]]
    """For each row, each component."""
    log_densities: np.ndarray
    """[N]"""
    responsibilities: np.ndarray
    """[N, K]"""


def expected(mixture: Mixture, rows: np.ndarray) -> Expected:
    parts = list(zip(mixture.means, mixture.matrices, strict=True))
    found = [[conditional(row, *part) for part in parts] for row in rows]
    joint = np.log(mixture.weights) + np.array([[one.log_density for one in row] for row in found])
    log_densities = logsumexp(joint, axis=1)
    return Expected(found, log_densities, np.exp(joint - log_densities[:, None]))


def completed(mixture: Mixture, rows: np.ndarray) -> np.ndarray:
    """Rows with the conditional means of the mixture in their gaps: [N, D]."""
    found = expected(mixture, rows)
    means = np.array([[one.mean for one in row] for row in found.components])
    return np.where(np.isnan(rows), np.einsum("nk,nkf->nf", found.responsibilities, means), rows)


def iterate(
    name: str,
    mixture: Mixture,
    rows: np.ndarray,
    sample_weight: np.ndarray | None = None,
    regularization: float = 0.0,
) -> tuple[Mixture, float]:
    """One iteration of EM, and the mean log-likelihood before it."""
    weights = np.ones(len(rows)) if sample_weight is None else sample_weight
    found, log_densities, shares = expected(mixture, rows)
    shares = shares * weights[:, None]
    bound = weights @ log_densities / weights.sum()
    counts = shares.sum(0)
    means, matrices = np.zeros_like(mixture.means), np.zeros_like(mixture.matrices)
    for share, row in zip(shares, found, strict=True):
        for k, one in enumerate(row):
            means[k] += share[k] * one.mean / counts[k]
    for share, row in zip(shares, found, strict=True):
        for k, one in enumerate(row):
            apart = one.mean - means[k]
            matrices[k] += share[k] * (np.outer(apart, apart) + one.covariance) / counts[k]
    sums = WeightedSums(counts, means, matrices)
    result = with_structure(name, Mixture(sums.weights, means, matrices), counts)
    regularized = result.matrices + regularization * np.eye(rows.shape[1])
    return result._replace(matrices=regularized), float(bound)


def with_gaps(rng: np.random.Generator, rows: np.ndarray, share: float = 0.3) -> np.ndarray:
    """A copy in which values are missing at random, all of them in the first row."""
    gappy = np.where(rng.random(rows.shape) < share, np.nan, rows)
    gappy[0] = np.nan
    return gappy
