"""Whether parameters belong to a mixture, and how far they are from the known ones.

Distances are in standard deviations: `whole_*` between the samples and the mixture as a whole, the
others between the groups and the components.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from benchmarks.problems import in_shape


def examine(fitted, data, covariance, regularization):
    """What the rules of the endings decide by: numbers by name."""
    weights, means, covariances = (np.asarray(v, dtype=np.float64) for v in fitted[:3])
    matrices = _dense(covariances, covariance, (*means.shape, means.shape[1]))
    is_finite = all(np.isfinite(values).all() for values in (weights, means, matrices))
    facts = {"converged": fitted.converged, "finite": bool(is_finite)}
    if not is_finite:
        return facts
    facts["weights_sum"] = float(weights.sum())
    if matrices.shape[1] <= 100:
        facts["smallest_eigenvalue"] = float(np.linalg.eigvalsh(matrices).min())
    with np.errstate(all="ignore"):
        X = np.asarray(data.X, dtype=np.longdouble)
        facts |= _whole(weights, means, matrices, X, regularization, covariance == "spherical")
        if data.groups is not None:
            members = [X[data.groups == group] for group in range(data.groups.max() + 1)]
            shares = np.array([len(rows) for rows in members]) / len(X)
            expected = _covariances(members, shares, covariance, regularization)
            centers = np.stack([rows.mean(0) for rows in members])
            facts |= _groups(weights, means, matrices, shares, centers, expected)
    return facts


def _whole(weights, means, matrices, X, regularization, is_spherical):
    """The distance of the mean and the variances of the mixture from the moments of the samples."""
    expected = X.var(0) + regularization
    shares = weights.astype(np.longdouble) / weights.sum()
    means = means - X.mean(0)
    offset = shares @ means
    actual = shares @ (np.einsum("kii->ki", matrices) + means**2) - offset**2
    # Samples without any spread, and nothing added, leave rounding as the only measure.
    unit = np.sqrt(np.maximum(expected, (1e-10 * np.abs(X).max()) ** 2))
    if is_spherical:
        # One variance for all features: only their sum is known.
        spread = np.abs(actual.sum() - expected.sum()) / (unit**2).sum()
    else:
        spread = np.abs(actual - expected) / unit**2
    return {"whole_mean": float(np.abs(offset / unit).max()), "whole_variance": float(spread.max())}


def _groups(weights, means, matrices, shares, centers, expected):
    """The largest distance of a component from the group that it stands for."""
    try:
        factors = np.linalg.cholesky(expected)
    except np.linalg.LinAlgError:
        # Without regularization there is no such mixture.
        return {}
    distances = (np.abs(means[:, np.newaxis] - centers) ** 2).sum(-1)
    component, group = linear_sum_assignment(distances.astype(np.float64))
    factors = factors[group]
    offset = (means[component] - centers[group]).astype(np.float64)
    step = np.linalg.solve(factors, offset[..., np.newaxis])
    half = np.linalg.solve(factors, matrices[component] - expected[group])
    ratio = np.linalg.solve(factors, half.swapaxes(1, 2))
    return {
        "group_weight": float(np.abs(weights[component] - shares[group]).max()),
        "group_mean": float(np.abs(step).max()),
        "group_covariance": float(np.abs(ratio).max()),
    }


def _covariances(members, shares, covariance, regularization):
    """The matrices of groups in a mixture of this type, regularization included."""
    # Centred in extended precision; the products of centred samples need no more than float64.
    centred = [(rows - rows.mean(0)).astype(np.float64) for rows in members]
    matrices = np.stack([rows.T @ rows / len(rows) for rows in centred])
    dense = _dense(in_shape(covariance, shares, matrices), covariance, matrices.shape)
    return dense + regularization * np.eye(matrices.shape[1])


def _dense(covariances, covariance, shape):
    """Every component's covariance as a matrix, of a shape [K, D, D]."""
    if covariance not in ("full", "tied"):
        # Variances [K] or [K, D], with as many axes as the matrices.
        covariances = covariances.reshape(shape[0], -1, 1) * np.eye(shape[1])
    return np.broadcast_to(covariances, shape)
