"""Rows by component, and the estimates that are made from them."""

import numpy as np
import pytest
import torch

from sklearn_torch_gmm.core.covariance import STRUCTURES
from sklearn_torch_gmm.em import first_m_step, groups
from sklearn_torch_gmm.em.first_m_step import Labels
from sklearn_torch_gmm.em.settings import StartSettings
from sklearn_torch_gmm.em.strategies import sample_of
from sklearn_torch_gmm.rows.source import StartingRows
from tests.em.settings import fit_settings

NUM_ROWS, NUM_FEATURES = 500, 3
TYPES = sorted(STRUCTURES)

each_size = pytest.mark.parametrize("fewest", [0, 10**9], ids=["by component", "all at once"])


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(NUM_ROWS, NUM_FEATURES)) + 5.0


@pytest.mark.parametrize("components", [1, 4, 2**15 + 1])
@each_size
def test_each_row_is_in_the_group_of_its_component(monkeypatch, rows, components, fewest):
    monkeypatch.setattr(groups, "FEWEST_VALUES_OF_GROUP", fewest)
    rng = np.random.default_rng(1)
    # The last component has no rows.
    labels = torch.from_numpy(rng.integers(max(1, components - 1), size=NUM_ROWS))
    weights = torch.from_numpy(rng.uniform(size=NUM_ROWS))
    means = torch.from_numpy(rng.normal(size=(components, NUM_FEATURES)))
    counts = torch.zeros(components, dtype=torch.float64)
    squares = torch.zeros(components, dtype=torch.float64)
    for group in groups.groups(labels, torch.from_numpy(rows), weights, components):
        assert group.is_one_of_many == (components > 1 and fewest == 0)
        x, shares = group.residuals(means), group.shares
        counts[group.components] += shares.sum(1)
        squares[group.components] += shares @ x.square().sum(0)
    expected = ((rows - means[labels].numpy()) ** 2).sum(1) * weights.numpy()
    np.testing.assert_allclose(counts, np.bincount(labels, weights, components), rtol=1e-12)
    np.testing.assert_allclose(squares, np.bincount(labels, expected, components), rtol=1e-12)


@pytest.mark.parametrize("given_means", [False, True])
@pytest.mark.parametrize("name", TYPES)
@each_size
def test_estimates_are_those_of_numpy(monkeypatch, rows, name, fewest, given_means):
    """In several chunks, and the same whether the covariance structures share the rows or not."""
    monkeypatch.setattr(groups, "FEWEST_VALUES_OF_GROUP", fewest)
    monkeypatch.setattr(first_m_step, "CHUNK_ROWS", 64)
    rng = np.random.default_rng(2)
    labels, weights = rng.integers(4, size=NUM_ROWS), rng.uniform(0.5, 2.0, size=NUM_ROWS)
    counts = np.bincount(labels, weights)
    means = np.stack(
        [np.average(rows[labels == k], axis=0, weights=weights[labels == k]) for k in range(4)]
    )
    if given_means:
        means += 0.1
    x = rows - means[labels]
    scatters = np.stack(
        [(x[labels == k].T * weights[labels == k]) @ x[labels == k] for k in range(4)]
    )
    matrices = scatters / counts[:, None, None]
    if name == "tied":
        matrices = np.broadcast_to(scatters.sum(0) / counts.sum(), matrices.shape)
    elif STRUCTURES[name].has_independent_features:
        diagonals = np.diagonal(matrices, axis1=1, axis2=2)
        if name == "spherical":
            diagonals = np.broadcast_to(diagonals.mean(1, keepdims=True), diagonals.shape)
        matrices = diagonals[:, None, :] * np.eye(NUM_FEATURES)

    assignment = Labels(labels, torch.from_numpy(means) if given_means else None)
    sample = sample_of(StartingRows(rows, weights))
    fits = [
        fit_settings(4, one, StartSettings(), np.random.RandomState(0), regularization=0.0)
        for one in TYPES
    ]
    found = assignment.estimate_all(sample, fits)[TYPES.index(name)].parameters
    np.testing.assert_allclose(found.weights[0], counts / counts.sum(), rtol=1e-12)
    np.testing.assert_allclose(found.means[0], means, rtol=1e-12)
    np.testing.assert_allclose(
        STRUCTURES[name].matrices(found.covariances, 4, NUM_FEATURES)[0],
        matrices, rtol=1e-10, atol=1e-13,
    )  # fmt: skip
    alone = assignment.estimate(sample, fits[TYPES.index(name)]).parameters
    for one, other in zip(alone.tensors(), found.tensors(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)
