"""The first M-step from labels: sums about the middle where they keep the digits, or residuals."""

import numpy as np
import pytest
import torch

from sklearn_torch_gmm.core.covariance import STRUCTURES
from sklearn_torch_gmm.em import first_m_step
from sklearn_torch_gmm.em.first_m_step import FEW_STARTING_ROWS, LOSS_OF_SUMS, Labels
from sklearn_torch_gmm.em.settings import StartSettings
from sklearn_torch_gmm.em.strategies import sample_of
from sklearn_torch_gmm.rows.source import StartingRows
from tests.em.settings import fit_settings

TYPES = sorted(STRUCTURES)
ROWS, FEATURES = 3000, 3
EPSILON = np.finfo(float).eps


def clusters(distance, rows=ROWS, dtype=float):
    """Two components of standard deviation one at this distance from their middle."""
    rng = np.random.default_rng(0)
    labels = np.arange(rows) % 2
    X = rng.normal(size=(rows, FEATURES))
    X[:, 0] += np.where(labels == 0, -distance, distance)
    return X.astype(dtype), labels


def first_step(X, labels, covariance_type, weights=None):
    settings = fit_settings(
        2, covariance_type, StartSettings(), np.random.RandomState(0), regularization=0.0
    )
    sample = sample_of(StartingRows(X, weights))
    return Labels(labels).estimate(sample, settings).parameters


@pytest.fixture
def residuals(monkeypatch):
    """The numbers of fits whose first M-step was computed from residuals."""
    calls = []
    original = Labels._from_residuals

    def spied(self, sample, fits):
        calls.append(len(fits))
        return original(self, sample, fits)

    monkeypatch.setattr(Labels, "_from_residuals", spied)
    return calls


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("dtype", [float, np.float32])
@pytest.mark.parametrize("weighted", [False, True])
def test_sums_about_the_middle_are_the_moments_of_each_label(
    covariance_type, dtype, weighted, residuals
):
    X, labels = clusters(5.0, dtype=dtype)
    weights = np.random.default_rng(1).uniform(0.5, 2.0, ROWS) if weighted else None
    found = first_step(X, labels, covariance_type, weights)
    assert residuals == []
    X, w = X.astype(float), np.ones(ROWS) if weights is None else weights
    shares = np.array([w[labels == k].sum() for k in (0, 1)]) / w.sum()
    np.testing.assert_allclose(found.weights[0], shares, rtol=1e-13)
    means = [np.average(X[labels == k], axis=0, weights=w[labels == k]) for k in (0, 1)]
    np.testing.assert_allclose(found.means[0], means, rtol=1e-11, atol=1e-13)
    structure = STRUCTURES[covariance_type]
    exact = np.stack([np.cov(X[labels == k].T, aweights=w[labels == k], ddof=0) for k in (0, 1)])
    if structure.is_shared:
        exact = np.broadcast_to(np.tensordot(shares, exact, 1), exact.shape)
    variances = np.diagonal(exact, axis1=1, axis2=2)
    if covariance_type == "spherical":
        variances = np.broadcast_to(variances.mean(1, keepdims=True), variances.shape)
    if structure.has_independent_features:
        exact = variances[:, None, :] * np.eye(FEATURES)
    matrices = structure.matrices(found.covariances, 2, FEATURES)[0]
    # Squares of distances of 5 standard deviations, whose sums have hundreds of equal roundings if
    # all values have few digits.
    np.testing.assert_allclose(matrices, exact, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_residuals_take_over_where_sums_would_lose_digits(covariance_type, factor, residuals):
    # The square of this distance in standard deviations is rounded by the tolerated loss.
    distance = factor * (LOSS_OF_SUMS / EPSILON) ** 0.5
    X, labels = clusters(distance)
    found = first_step(X, labels, covariance_type)
    assert residuals == ([] if factor < 1 else [1])
    rows = X - np.where(labels == 0, -distance, distance)[:, None] * np.eye(FEATURES)[0]
    expected = first_step(rows, labels, covariance_type).covariances
    # The distance itself is rounded by 1e-14 of a standard deviation.
    tolerance = 100 * LOSS_OF_SUMS if factor < 1 else 1e-12
    torch.testing.assert_close(found.covariances, expected, rtol=tolerance, atol=tolerance)


def test_a_component_of_a_few_rows_has_residuals(residuals):
    X, labels = clusters(5.0)
    labels[:] = 0
    labels[:3] = 1
    first_step(X, labels, "full")
    assert residuals == [1]


@pytest.mark.parametrize("rows", [FEW_STARTING_ROWS - 1, FEW_STARTING_ROWS])
def test_few_rows_have_residuals(rows, residuals):
    first_step(*clusters(5.0, rows), "full")
    assert residuals == ([1] if rows < FEW_STARTING_ROWS else [])


def test_sums_larger_than_a_chunk_are_not_kept_for_each_thread(monkeypatch, residuals):
    X, labels = clusters(5.0)
    expected = first_step(X, labels, "full")
    monkeypatch.setattr(first_m_step.Workspace, "fits", lambda self, num_values: False)
    found = first_step(X, labels, "full")
    assert residuals == []
    for one, other in zip(found.tensors(), expected.tensors(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)
