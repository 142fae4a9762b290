"""One fit of one library to one input, and what can be said about its end, as plain numbers."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import linear_sum_assignment

from benchmarks.peers import PEERS
from benchmarks.peers.base import Fitted, NotOffered, Question
from benchmarks.process import limit_memory, without_paths
from benchmarks.robustness.inputs import INPUTS, Data

MEMORY = 8 * 2**30
_REGULARIZATION = 1e-6
"""The default of all the libraries that have one."""

_LONGEST = 1_500


def attempt(request: dict[str, Any]) -> dict[str, Any]:
    entry, difficult = PEERS[request["library"]], INPUTS[request["case"]]
    peer = entry.load()(request["device"])
    limit_memory(MEMORY)
    data = difficult.data()
    X = data.X if difficult.is_raw else peer.prepare(data.X)
    question = Question(
        difficult.components,
        request["covariance"],
        data.means,
        difficult.needs_means,
        difficult.regularization,
        difficult.batch_size,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fitted = peer.fitted(peer.answer(X, question))
        except NotOffered:
            raise
        except Exception as error:
            found: dict[str, Any] = {"raised": _told(error)}
        else:
            regularization = difficult.regularization
            if regularization is None:
                regularization = _REGULARIZATION
            found = examine(fitted, data, request["covariance"], regularization)
    told = dict.fromkeys(_told(warning.message) for warning in caught if _is_for_users(warning))
    # Numbers that JSON has no name for are kept as words.
    return json.loads(json.dumps({**found, "warnings": list(told)[:5]}), parse_constant=str)


def _told(error: BaseException | str) -> str:
    text = " ".join(without_paths(str(error)).split())
    return f"{type(error).__name__}: {text}"[:_LONGEST]


def _is_for_users(warning: warnings.WarningMessage) -> bool:
    developers = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning)
    return not issubclass(warning.category, developers)


def examine(
    fitted: Fitted, data: Data, covariance: str, regularization: float
) -> dict[str, float | bool | None]:
    """Whether the parameters are those of a mixture, and how far they are from what is known.

    Distances are in standard deviations: `whole_*` between the samples and the mixture as a whole,
    the others between the groups and the components.
    """
    weights, means = (np.asarray(v, dtype=np.float64) for v in (fitted.weights, fitted.means))
    dense = _dense(np.asarray(fitted.covariances, dtype=np.float64), covariance, means)
    facts: dict[str, float | bool | None] = {
        "converged": fitted.converged,
        "finite": bool(all(np.isfinite(v).all() for v in (weights, means, dense))),
    }
    if not facts["finite"]:
        return facts
    facts["weights_sum"] = float(weights.sum())
    if dense.shape[1] <= 100:
        facts["smallest_eigenvalue"] = float(np.linalg.eigvalsh(dense).min())
    with np.errstate(all="ignore"):
        X = np.asarray(data.X, dtype=np.longdouble)
        facts |= _whole(weights, means, dense, X, covariance, regularization)
        if data.groups is not None:
            facts |= _groups(weights, means, dense, X, data.groups, covariance, regularization)
    return facts


def _dense(covariances: np.ndarray, covariance: str, means: np.ndarray) -> np.ndarray:
    """Every component's covariance as a matrix [K, D, D]."""
    components, features = means.shape
    shape = (components, features, features)
    if covariance in ("full", "tied"):
        return np.broadcast_to(covariances, shape)
    if covariance == "spherical":
        covariances = np.broadcast_to(covariances.reshape(components, 1), means.shape)
    return covariances.reshape(components, features, 1) * np.eye(features)


def _whole(
    weights: np.ndarray,
    means: np.ndarray,
    dense: np.ndarray,
    X: np.ndarray,
    covariance: str,
    regularization: float,
) -> dict[str, float]:
    center = X.mean(0)
    expected = X.var(0) + regularization
    shares = weights.astype(np.longdouble) / weights.sum()
    offset = shares @ (means - center)
    actual = shares @ (np.einsum("kii->ki", dense) + (means - center) ** 2) - offset**2
    # Rows without any spread, and nothing added, leave rounding as the only measure.
    unit = np.sqrt(np.maximum(expected, (1e-10 * np.abs(X).max()) ** 2))
    if covariance == "spherical":
        # One variance for all features: only their sum is known.
        expected, actual = expected.sum(), actual.sum()
        spread = np.abs(actual - expected) / (unit**2).sum()
    else:
        spread = np.abs(actual - expected) / unit**2
    return {
        "whole_mean": float(np.abs(offset / unit).max()),
        "whole_variance": float(spread.max()),
    }


def _groups(
    weights: np.ndarray,
    means: np.ndarray,
    dense: np.ndarray,
    X: np.ndarray,
    groups: np.ndarray,
    covariance: str,
    regularization: float,
) -> dict[str, float]:
    number = groups.max() + 1
    shares = np.bincount(groups) / len(groups)
    centers = np.stack([X[groups == k].mean(0) for k in range(number)])
    features = X.shape[1]
    # Centred in extended precision; the products of centred rows need no more than float64.
    scatters = []
    for k in range(number):
        rows = (X[groups == k] - centers[k]).astype(np.float64)
        scatters.append(rows.T @ rows / len(rows))
    expected = np.stack(scatters)
    if covariance == "tied":
        expected = np.broadcast_to(np.einsum("k,kij->ij", shares, expected), expected.shape)
    elif covariance != "full":
        variances = np.einsum("kii->ki", expected)
        if covariance == "spherical":
            variances = np.broadcast_to(variances.mean(1, keepdims=True), variances.shape)
        expected = variances[:, :, np.newaxis] * np.eye(features)
    expected = expected + regularization * np.eye(features)
    try:
        factors = np.linalg.cholesky(expected)
    except np.linalg.LinAlgError:
        # Without regularization there is no such mixture.
        return {}
    distances = (np.abs(means[:, np.newaxis] - centers) ** 2).sum(-1).astype(np.float64)
    component, group = linear_sum_assignment(distances)
    mean, spread = 0.0, 0.0
    for k, g in zip(component, group, strict=True):
        difference = (means[k] - centers[g]).astype(np.float64)
        factor = factors[g]
        step = solve_triangular(factor, difference, lower=True)
        half = solve_triangular(factor, dense[k] - expected[g], lower=True)
        ratio = solve_triangular(factor, half.T, lower=True)
        mean = max(mean, float(np.abs(step).max()))
        spread = max(spread, float(np.abs(ratio).max()))
    return {
        "group_weight": float(np.abs(weights[component] - shares[group]).max()),
        "group_mean": mean,
        "group_covariance": spread,
    }
