"""Parameters agree with EM in 60 digits to what rounding and conditioning allow.

A mean is rounded to eps of its size, whatever computes it: at an offset of 1e8 to 1e-8 widths. The
next responsibilities are off by that, and the parameters with them; differences lose nothing more.
"""

import warnings

import mpmath
import numpy as np
import pytest
from sklearn.mixture import GaussianMixture as ScikitLearnMixture

from sklearn_torch_gmm.mixture import GaussianMixture
from tests.estimators import TYPES
from tests.numerics import reference

EPSILON = np.finfo(np.float64).eps
ITERATIONS = 3

all_types = pytest.mark.parametrize("covariance_type", TYPES)


def two_clusters(rng, num_rows=15):
    """Unit width, three units apart: responsibilities are neither zero nor one."""
    return np.vstack([rng.normal(size=(num_rows, 2)), rng.normal(size=(num_rows, 2)) + 3.0])


def precisions_of(covariance_type, widths):
    """Of components with such a width ``[K]`` in each direction, in the shape of the type."""
    precisions = 1.0 / np.square(widths)
    return {
        "full": precisions[:, None, None] * np.eye(2),
        "tied": precisions.min() * np.eye(2),
        "diag": precisions[:, None] * np.ones(2),
        "spherical": precisions,
    }[covariance_type]


def fit(model_class, X, covariance_type, means, precisions, regularization=0.0):
    model = model_class(
        2, covariance_type=covariance_type, weights_init=[0.5, 0.5], means_init=means,
        precisions_init=precisions, reg_covar=regularization, max_iter=ITERATIONS, tol=0.0,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*did not converge")
        return model.fit(X)


def errors(X, covariance_type, means, precisions, regularization=0.0):
    """Those of ours, and the likelihoods of the reference."""
    expected = reference.fit(
        X, [0.5, 0.5], means, precisions, covariance_type, ITERATIONS, regularization
    )
    ours = fit(GaussianMixture, X, covariance_type, means, precisions, regularization)
    return reference.errors_of(ours, *expected), expected


def errors_of_scikit_learn(expected, *start):
    """Infinity where it fails."""
    try:
        return reference.errors_of(fit(ScikitLearnMixture, *start), *expected)
    except ValueError:
        return reference.Errors(*[np.inf] * 4)


@all_types
@pytest.mark.parametrize("offset", [0.0, 1e4, 1e6, 1e8])
def test_offsets(rng, covariance_type, offset):
    X = two_clusters(rng) + offset
    start = X, covariance_type, X[[0, -1]], precisions_of(covariance_type, np.ones(2))
    ours, expected = errors(*start)
    assert max(ours) < 1e-12 + 2 * EPSILON * offset
    if offset > 0 and covariance_type != "full":
        theirs = errors_of_scikit_learn(expected, *start)
        assert ours.covariances < 1e-3 * theirs.covariances


@all_types
@pytest.mark.parametrize("offset", [1e2, 1e4, 1e6])
def test_offsets_in_float32(rng, covariance_type, offset):
    """The data are what they are after rounding; parameters are rounded once, at the end."""
    epsilon = np.finfo(np.float32).eps
    X = (two_clusters(rng) + offset).astype(np.float32)
    start = X, covariance_type, X[[0, -1]], precisions_of(covariance_type, np.ones(2))
    ours, expected = errors(*start)
    assert ours.weights < epsilon
    assert ours.means < 2 * epsilon * offset
    assert ours.covariances < 2 * epsilon
    assert ours.likelihood < 1e-9
    theirs = errors_of_scikit_learn(expected, *start)
    assert ours.covariances < theirs.covariances
    if offset >= 1e4 and covariance_type != "full":
        # Squares of 1e8 in float32 are off by several units; by how much is luck.
        assert theirs.covariances > 0.01


@all_types
@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("regularization", [0.0, 1e-2])
def test_scales(rng, covariance_type, scale, regularization):
    X = scale * two_clusters(rng)
    precisions = precisions_of(covariance_type, np.array([scale, scale]))
    ours, _ = errors(X, covariance_type, X[[0, -1]], precisions, regularization * scale**2)
    assert ours.weights < 1e-13
    assert ours.means < 1e-13
    assert ours.covariances < 1e-12
    assert ours.likelihood < 1e-13


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_widths_that_differ_by_a_million(rng, covariance_type, offset):
    X = two_clusters(rng)
    X[15:] = 3.0 + 1e-6 * (X[15:] - 3.0)
    X += offset
    widths = np.array([1.0, 1e-6])
    start = X, covariance_type, X[[0, -1]], precisions_of(covariance_type, widths)
    ours, expected = errors(*start)
    assert ours.weights < 1e-12
    # A mean of three, or of ten thousand, is rounded to eps of it: in widths of 1e-6.
    assert ours.means < 4 * EPSILON * (3.0 + offset) / 1e-6
    assert ours.covariances < 1e-11 + 4 * EPSILON * offset / 1e-6
    if covariance_type != "full":
        theirs = errors_of_scikit_learn(expected, *start)
        assert ours.covariances < 1e-2 * theirs.covariances


@all_types
@pytest.mark.parametrize("condition", [1e2, 1e6, 1e10])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_condition_numbers(rng, covariance_type, condition, offset):
    """The smallest variance of a matrix is known to eps of the largest moment about the centre.

    That is 1 + 2 · 1.5² where the means are 1.5 from the centre in each direction; how much of it
    is lost depends on the order in which a processor sums: of those tried, up to 9 eps.
    """
    narrow = condition**-0.5
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    if covariance_type in ("diag", "spherical"):
        turn = np.eye(2)
    directions = turn * np.array([1.0, narrow])
    X = two_clusters(rng) @ directions.T + offset
    precisions = {
        "full": np.stack([turn @ np.diag([1.0, condition]) @ turn.T] * 2),
        "tied": turn @ np.diag([1.0, condition]) @ turn.T,
        "diag": np.array([[1.0, condition]] * 2),
        "spherical": np.ones(2),
    }[covariance_type]
    ours, _ = errors(X, covariance_type, X[[0, -1]], precisions)
    loss = 2 * condition if covariance_type in ("full", "tied") else 1.0
    loss += offset if covariance_type == "spherical" else offset / narrow
    assert max(ours) < 1e-12 + 8 * EPSILON * loss


@all_types
@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8])
@pytest.mark.parametrize("num_rows", [30, 600], ids=["few rows", "many"])
def test_densities_and_responsibilities(rng, covariance_type, offset, num_rows):
    """On both sides of the number of rows that one product is worth its bound for."""
    X = two_clusters(rng) + offset
    model = GaussianMixture(2, covariance_type=covariance_type, random_state=0).fit(X)
    with mpmath.mp.workdps(reference.DIGITS):
        matrices = reference.precision_matrices(
            model.covariances_, covariance_type, model.means_.shape
        )
        mixture = reference.Mixture(*map(reference.exact, (model.weights_, model.means_)), matrices)
        expected = np.array(reference.log_densities(mixture, reference.exact(X)), dtype=float)
        joint = np.array(reference.log_joint(mixture, reference.exact(X)), dtype=float)
    rows = np.tile(X, (num_rows // len(X), 1))
    np.testing.assert_allclose(model.score_samples(rows)[: len(X)], expected, atol=1e-9)
    shares = np.exp(joint - expected[:, None])
    np.testing.assert_allclose(model.predict_proba(rows)[: len(X)], shares, atol=1e-9)


# Starts from which the component of the far row loses all others within a few iterations.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("seed", [2, 3, 8, 15, 16, 19])
def test_a_far_row_that_one_component_takes_costs_no_more_digits_than_its_covariance(seed):
    rng = np.random.default_rng(seed)
    groups = [
        rng.normal(size=(30, 3)) @ rng.normal(size=(3, 3)) + 8 * rng.normal(size=3)
        for _ in range(2)
    ]
    X = np.concatenate(groups)
    X[0] = 1e6 * rng.normal(size=3)
    means = X[rng.choice(60, 2, replace=False)]
    weights, precisions = np.full(2, 0.5), np.stack([0.1 * np.eye(3)] * 2)
    mixture = GaussianMixture(
        2, weights_init=weights, means_init=means, precisions_init=precisions, tol=0, max_iter=8
    ).fit(X)
    start = weights, means, precisions
    _, expected = reference.fit(X, *start, "full", 8, 1e-6)
    # The entries of the long component's covariance, up to (1e6)^2 for widths near one, are
    # rounded: eps 1e12, in nats. That is without the terms of the likelihood itself.
    atol = 1e12 * np.finfo(float).eps
    np.testing.assert_allclose(
        mixture.lower_bounds_, np.array(expected, float), rtol=1e-14, atol=atol
    )
