from itertools import chain, combinations

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.optimize import minimize

from sklearn_torch_gmm.core.covariance import STRUCTURES, get_structure
from sklearn_torch_gmm.core.fixed import PARTS, keep_parts
from tests.core.oracle import (
    Mixture,
    beside_fixed,
    draw_rows,
    joint_log_densities,
    responsibilities,
    weighted_sums,
)
from tests.core.steps import (
    E_STEPS,
    as_parameters,
    assert_same_mixtures,
    iterate,
    mixture_of,
    tensor,
)

TYPES = sorted(STRUCTURES)
SOME = list(chain.from_iterable(combinations(PARTS, n) for n in (1, 2, 3)))

each_type = pytest.mark.parametrize("name", TYPES)
each_choice = pytest.mark.parametrize("fixed", SOME, ids="+".join)


def iterate_beside(fixed, kind, name, mixtures, rows, weights=None, regularization=0.0):
    structure, before = get_structure(name), as_parameters(name, *mixtures)
    result, _ = iterate(
        kind,
        before,
        tensor(rows),
        structure,
        sample_weight=None if weights is None else tensor(weights),
        regularization=regularization,
        keep_means="means" in fixed,
    )
    return keep_parts(result, before, fixed), before


@each_type
@each_choice
@pytest.mark.parametrize("kind", E_STEPS)
def test_the_m_step_by_loops(rng, name, fixed, kind):
    """Two mixtures at once, weighted rows, and means that are not those of the rows."""
    mixtures = [mixture_of(rng, name) for _ in range(2)]
    rows = draw_rows(rng, mixtures[0], 60)
    weights = rng.uniform(size=60)
    result, before = iterate_beside(fixed, kind, name, mixtures, rows, weights, 0.05)
    assert result.usable.all()
    expected = [
        beside_fixed(
            name,
            mixture,
            weighted_sums(rows, responsibilities(mixture, rows), weights),
            fixed,
            0.05,
        )
        for mixture in mixtures
    ]
    assert_same_mixtures(result.parameters, as_parameters(name, *expected), rtol=1e-10, atol=1e-10)
    for part in fixed:
        assert getattr(result.parameters, part) is getattr(before, part)


def expected_log_likelihood(mixture, rows, shares):
    """Of rows and components together, under shares [K, N]: what an M-step makes largest."""
    return float((shares * joint_log_densities(mixture, rows)).sum())


def turned_and_stretched(rng, name, matrices, size):
    """Covariances a little away, in the same structure."""
    components, features, _ = matrices.shape
    noise = size * rng.standard_normal((components, features, features))
    if name == "tied":
        noise[:] = noise[0]
    elif name == "diag":
        noise *= np.eye(features)
    elif name == "spherical":
        noise = noise[:, :1, :1] * np.eye(features)
    return np.stack([expm(a) @ m @ expm(a).T for a, m in zip(noise, matrices, strict=True)])


@each_type
@pytest.mark.parametrize("fixed", SOME[:-1], ids="+".join)
def test_nothing_near_is_likelier(rng, name, fixed):
    """What is free maximizes the expected log-likelihood of rows and components together."""
    before = mixture_of(rng, name)
    rows = draw_rows(rng, mixture_of(rng, name), 40)
    shares = responsibilities(before, rows)
    result, _ = iterate_beside(fixed, "fast", name, [before], rows)
    found = result.parameters
    matrices = get_structure(name).matrices(found.covariances, 3, 2)[0]
    best = Mixture(found.weights[0].numpy(), found.means[0].numpy(), matrices.numpy())
    largest = expected_log_likelihood(best, rows, shares)
    assert largest > expected_log_likelihood(before, rows, shares)
    for size in (1e-3, 1e-2, 1e-1):
        for _ in range(10):
            weights = best.weights * np.exp(size * rng.standard_normal(3))
            other = {
                "weights": {"weights": weights / weights.sum()},
                "means": {"means": best.means + size * rng.standard_normal((3, 2))},
                "covariances": {"matrices": turned_and_stretched(rng, name, best.matrices, size)},
            }
            for part in set(PARTS) - set(fixed):
                near = best._replace(**other[part])
                assert expected_log_likelihood(near, rows, shares) < largest


def test_covariances_about_fixed_means_are_where_a_search_ends(rng):
    """The largest value that scipy finds, over all lower triangles, from the identity."""
    before = mixture_of(rng, "full", 1)._replace(means=np.array([[0.7, -1.3]]))
    rows = rng.standard_normal((50, 2)) @ [[1.0, 0.4], [0.0, 0.5]]

    def loss(lower):
        matrix = np.array([[lower[0], 0.0], [lower[1], lower[2]]])
        mixture = Mixture(np.ones(1), before.means, (matrix @ matrix.T)[None])
        return -joint_log_densities(mixture, rows).mean()

    lower = minimize(loss, [1.0, 0.0, 1.0], options={"gtol": 1e-8}).x
    matrix = np.array([[lower[0], 0.0], [lower[1], lower[2]]])
    result, _ = iterate_beside(("means",), "exact", "full", [before], rows)
    np.testing.assert_allclose(result.parameters.covariances[0, 0], matrix @ matrix.T, atol=1e-5)


@each_type
@each_choice
@pytest.mark.parametrize("kind", E_STEPS)
def test_a_component_without_rows(rng, name, fixed, kind):
    """It is filled with the variance of the data, unless the covariances are fixed."""
    mixture = mixture_of(rng, name)
    mixture = mixture._replace(means=mixture.means + np.array([[0.0], [1e4], [0.0]]))
    kept = mixture._replace(
        weights=mixture.weights[::2], means=mixture.means[::2], matrices=mixture.matrices[::2]
    )
    rows = draw_rows(rng, kept._replace(weights=kept.weights / kept.weights.sum()), 60)
    result, before = iterate_beside(fixed, kind, name, [mixture], rows, None, 0.0)
    assert result.empty.tolist() == [[False, True, False]]
    assert result.usable.all()
    assert result.parameters.means[0, 1].tolist() == mixture.means[1].tolist()
    for part in fixed:
        assert torch.equal(getattr(result.parameters, part), getattr(before, part))
    if "weights" not in fixed:
        assert result.parameters.weights[0, 1] == 0.0
    if "covariances" not in fixed and name != "tied":
        variances = get_structure(name).variances(result.parameters.covariances, 3, 2)[0, 1]
        spread = rows.var(0).mean() if name == "spherical" else rows.var(0)
        np.testing.assert_allclose(variances, np.broadcast_to(spread, 2), rtol=1e-9)


@each_type
def test_far_from_the_origin(rng, name):
    before = mixture_of(rng, name)
    before = before._replace(means=before.means + 1e6)
    rows = draw_rows(rng, before, 60)
    sums = weighted_sums(rows, responsibilities(before, rows))
    expected = beside_fixed(name, before, sums, ("means",))
    result, _ = iterate_beside(("means",), "exact", name, [before], rows)
    # Numbers of size 1e6 are rounded to 1e-10.
    assert_same_mixtures(result.parameters, as_parameters(name, expected), rtol=1e-8, atol=1e-8)
