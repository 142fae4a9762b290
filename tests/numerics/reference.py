"""EM in 60 digits, by the formulas of the textbook: the reference for a few dozen rows.

Bishop (2006), equations (9.23) to (9.28). A mixture has a matrix for each component, whatever its
structure. The numbers that go in are taken exactly; so what differs is the rounding of the other.
"""

from typing import NamedTuple

import mpmath
import numpy as np
from mpmath import mp, mpf

DIGITS = 60


class Mixture(NamedTuple):
    weights: list
    """[K]"""
    means: list
    """[K][D]"""
    matrices: list
    """Covariances: K matrices [D, D]."""


def exact(array):
    """Nested lists of numbers in 60 digits."""
    if np.ndim(array) == 0:
        return mpf(float(array))
    return [exact(part) for part in array]


def log_joint(mixture, rows):
    """Log π_k + log N(x | μ_k, Σ_k): [N][K]."""
    parts = []
    for weight, mean, matrix in zip(*mixture, strict=True):
        constant = mp.log(weight) - (len(mean) * mp.log(2 * mp.pi) + mp.log(mp.det(matrix))) / 2
        parts.append((constant, mean, mp.inverse(matrix).tolist()))
    return [[constant - _distance(row, mean, p) / 2 for constant, mean, p in parts] for row in rows]


def log_densities(mixture, rows):
    """Log p(x): [N]."""
    return [_log_sum_exp(joint) for joint in log_joint(mixture, rows)]


def iterate(mixture, rows, name, regularization):
    """An iteration, and the mean log-likelihood before it."""
    joints = log_joint(mixture, rows)
    totals = [_log_sum_exp(joint) for joint in joints]
    shares = [
        [mp.exp(part - total) for part in joint]
        for joint, total in zip(joints, totals, strict=True)
    ]
    features = range(len(rows[0]))
    counts, means, matrices = [], [], []
    for component in range(len(mixture.weights)):
        own = [share[component] for share in shares]
        count = mp.fsum(own)
        weighted = list(zip(own, rows, strict=True))
        mean = [mp.fsum(r * x[i] for r, x in weighted) / count for i in features]
        matrix = mpmath.matrix(len(features))
        for i in features:
            for j in features[: i + 1]:
                terms = (r * (x[i] - mean[i]) * (x[j] - mean[j]) for r, x in weighted)
                matrix[i, j] = matrix[j, i] = mp.fsum(terms) / count
        counts.append(count)
        means.append(mean)
        matrices.append(matrix)
    weights = [count / len(rows) for count in counts]
    matrices = with_structure(name, weights, matrices)
    unit = mpmath.eye(len(features))
    matrices = [matrix + mpf(regularization) * unit for matrix in matrices]
    return Mixture(weights, means, matrices), mp.fsum(totals) / len(rows)


def with_structure(name, weights, matrices):
    """The likeliest covariances of a structure where components of such weights have these."""
    size = matrices[0].rows
    if name == "tied":
        pooled = mpmath.matrix(size)
        for weight, matrix in zip(weights, matrices, strict=True):
            pooled += weight * matrix
        return [pooled] * len(matrices)
    diagonals = [[matrix[i, i] for i in range(size)] for matrix in matrices]
    if name == "spherical":
        diagonals = [[mp.fsum(values) / size] * size for values in diagonals]
    return matrices if name == "full" else [mpmath.diag(values) for values in diagonals]


def fit(rows, weights, means, precisions, name, iterations, regularization):
    """The mixture after so many iterations from a start, and the likelihood before each.

    Parameters
    ----------
    rows : array [N, D]
    weights : array [K]
    means : array [K, D]
    precisions : array
        In the shape of the structure.
    """
    with mp.workdps(DIGITS):
        rows = exact(rows)
        matrices = [mp.inverse(p) for p in precision_matrices(precisions, name, np.shape(means))]
        mixture = Mixture(exact(weights), exact(means), matrices)
        likelihoods = []
        for _ in range(iterations):
            mixture, likelihood = iterate(mixture, rows, name, regularization)
            likelihoods.append(likelihood)
    return mixture, likelihoods


def precision_matrices(values, name, shape):
    """A matrix for each component from values in the shape of the structure."""
    components, features = shape
    if name == "full":
        return [mpmath.matrix(exact(matrix)) for matrix in values]
    if name == "tied":
        return [mpmath.matrix(exact(values))] * components
    rows = [[value] * features for value in values] if name == "spherical" else values
    return [mpmath.diag(exact(row)) for row in rows]


class Errors(NamedTuple):
    weights: float
    """Largest difference."""
    means: float
    """Largest distance, in widths of the component."""
    covariances: float
    """Largest entry of L⁻¹ Σ L⁻ᵀ − 1, where the reference is L Lᵀ."""
    likelihood: float
    """Largest difference, in nats per row."""


def errors_of(model, mixture, likelihoods):
    """By how much a fitted estimator differs from the reference."""
    with mp.workdps(DIGITS):
        weights, means, covariances = [], [], []
        shape = model.means_.shape
        fitted = precision_matrices(model.covariances_, model.covariance_type, shape)
        for k, (weight, mean, matrix) in enumerate(zip(*mixture, strict=True)):
            inverse = mp.inverse(mp.cholesky(matrix))
            shift = mpmath.matrix(exact(model.means_[k])) - mpmath.matrix(mean)
            relative = inverse * fitted[k] * inverse.T - mpmath.eye(shape[1])
            weights.append(abs(exact(model.weights_[k]) - weight))
            means.append(mp.norm(inverse * shift))
            covariances.append(max(abs(value) for value in relative))
        likelihood = max(
            abs(exact(ours) - theirs)
            for ours, theirs in zip(model.lower_bounds_, likelihoods, strict=True)
        )
        return Errors(*(float(max(v)) for v in (weights, means, covariances)), float(likelihood))


def _distance(row, mean, precision):
    difference = [x - m for x, m in zip(row, mean, strict=True)]
    indices = range(len(row))
    return mp.fsum(
        difference[i] * precision[i][j] * difference[j] for i in indices for j in indices
    )


def _log_sum_exp(values):
    largest = max(values)
    return largest + mp.log(mp.fsum(mp.exp(value - largest) for value in values))
