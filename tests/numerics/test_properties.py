"""What holds for every mixture, on random problems.

The same few problems in each run; ``tox -e fuzz`` looks at ten thousand others.
"""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from sklearn_torch_gmm.core.covariance import FEW_ROWS, get_structure
from sklearn_torch_gmm.mixture import GaussianMixture as DropIn
from tests.numerics.problems import problems

EXPLANATIONS = ["did not converge", "distinct clusters", "lost all their samples"]

ATTRIBUTES = ["weights_", "means_", "covariances_", "precisions_cholesky_", "precisions_"]


def fit(mixture, X, **kwargs):
    """Fit; a warning of a likelihood that falls is an error, as any that explains nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for message in EXPLANATIONS:
            warnings.filterwarnings("ignore", f".*{message}")
        return mixture.fit(X, **kwargs)


def assert_same(mixture, other, *, tolerance, order=slice(None), scale=1.0, offset=0.0):
    """Parameters of ``mixture``, moved and in another order, are those of ``other``.

    The tolerance is in widths of the components.
    """
    structure = get_structure(mixture.covariance_type)
    components, features = mixture.means_.shape
    factor = torch.from_numpy(other.precisions_cholesky_.astype(float))
    factors = structure.matrices(factor, components, features).numpy()

    def matrices(covariances):
        values = torch.from_numpy(covariances.astype(float))
        return structure.matrices(values, components, features).numpy()

    np.testing.assert_allclose(mixture.weights_[order], other.weights_, atol=tolerance)
    has_weight = other.weights_ > 1e-12
    moved = scale * mixture.means_[order].astype(float) + offset
    distance = np.einsum("kij,ki->kj", factors, moved - other.means_.astype(float))
    np.testing.assert_allclose(distance[has_weight], 0.0, atol=tolerance)
    covariances = scale**2 * matrices(mixture.covariances_)[order]
    whitened = np.swapaxes(factors, 1, 2) @ covariances @ factors
    expected = np.broadcast_to(np.eye(features), whitened.shape)
    np.testing.assert_allclose(whitened[has_weight], expected[has_weight], atol=tolerance)


@given(problems())
def test_a_fit_is_finite_and_agrees_with_itself(problem):
    X, weights = problem.rows, problem.sample_weight
    mixture = fit(problem.mixture(), X, sample_weight=weights)
    for name in ATTRIBUTES:
        values = getattr(mixture, name)
        assert values.dtype == X.dtype
        assert np.isfinite(values).all(), name
    rounding = 10 * float(np.finfo(X.dtype).eps)
    assert mixture.weights_.sum() == pytest.approx(1.0, abs=rounding)
    assert (mixture.weights_ >= 0).all()
    assert np.isfinite(mixture.lower_bounds_).all()

    shares = mixture.predict_proba(X)
    assert np.isfinite(shares).all()
    np.testing.assert_allclose(shares.sum(1), 1.0, rtol=rounding)
    labels = mixture.predict(X)
    chosen = shares[np.arange(len(X)), labels]
    np.testing.assert_array_equal(chosen, shares.max(1))
    np.testing.assert_array_equal(mixture.labels_, labels)
    again = fit_predict(problem.mixture(), X, weights)
    np.testing.assert_array_equal(again, labels)
    log_densities = mixture.score_samples(X).astype(float)
    assert np.isfinite(log_densities).all()
    # Their mean may be near zero, and they are not.
    tolerance = rounding * np.abs(log_densities).max()
    assert mixture.score(X) == pytest.approx(log_densities.mean(), abs=tolerance)


def fit_predict(mixture, X, weights):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mixture.fit_predict(X, sample_weight=weights)


@given(problems(log_regularization=st.just(-1000)))
def test_the_likelihood_never_falls_without_regularization(problem):
    """Or a covariance is singular: an error or, up to rounding, a warning names a remedy."""
    X, weights = problem.rows, problem.sample_weight
    mixture = problem.mixture(regularization=0.0, iterations=20)
    try:
        fitted = fit(mixture, X, sample_weight=weights)
    except ValueError as error:
        # Either ending is right, and pytest.raises knows only one of them.
        assert "is sufficient" in str(error)  # noqa: PT017
    except ConvergenceWarning as warning:
        # Or that the likelihood is one of rounding, where the covariance is.
        assert "too ill-conditioned for the arithmetic" in str(warning)  # noqa: PT017
        assert (
            largest_condition(problem.mixture(regularization=0.0, iterations=20), X, weights) > 1e13
        )
    else:
        # scikit-learn's variance of a few equal rows does not maximize the likelihood.
        keeps_rounding = problem.cls is DropIn and fitted.weights_.min() * len(X) < FEW_ROWS
        assert keeps_rounding or np.diff(fitted.lower_bounds_).min(initial=0.0) >= -1e-3


def largest_condition(mixture, X, weights):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixture.fit(X, sample_weight=weights)
    covariances = torch.from_numpy(mixture.covariances_.astype(float))
    matrices = get_structure(mixture.covariance_type).matrices(covariances, *mixture.means_.shape)
    return np.linalg.cond(matrices.numpy()).max()


def rounding_of(problem):
    """What a few iterations may make of the rounding of rows, in widths of a component.

    Means are rounded to eps of their size, and the width is that of the regularization at least.
    """
    epsilon = float(np.finfo(problem.dtype).eps)
    size = np.abs(problem.rows).max() / problem.scale + 1.0
    return 1e4 * epsilon * size / 2.0 ** (0.5 * problem.log_regularization)


def kept_rounding_of(problem):
    """The variance that a component of a few equal rows has in scikit-learn grows with the offset.

    The drop-in keeps it, 10 eps μ² for a row, where features are independent.
    """
    if problem.cls is not DropIn or problem.covariance_type in ("full", "tied"):
        return 0.0
    variance = 10 * np.finfo(float).eps * (problem.offset / problem.scale + 20.0) ** 2
    return 10 * problem.features * variance / 2.0**problem.log_regularization


SMOOTH = {"layouts": ("normal", "clusters"), "log_regularization": st.integers(-10, 0)}
"""Without ties, and with widths beside which rounding stays small."""


@given(problems(**SMOOTH, start=st.just("labels")))
def test_the_order_of_rows_changes_nothing(problem):
    X, weights = problem.rows, problem.sample_weight
    order = problem.rng.permutation(len(X))
    mixture = problem.mixture()
    labels = mixture.get_params()[mixture._vocabulary.start]
    permuted = problem.mixture(start=labels[order])
    fit(mixture, X, sample_weight=weights)
    fit(permuted, X[order], sample_weight=None if weights is None else weights[order])
    assert_same(mixture, permuted, tolerance=rounding_of(problem))


@given(problems(**SMOOTH, start=st.just("labels")))
def test_the_order_of_components_changes_nothing_else(problem):
    X, weights = problem.rows, problem.sample_weight
    order = problem.rng.permutation(problem.components)
    mixture = problem.mixture()
    labels = mixture.get_params()[mixture._vocabulary.start]
    permuted = problem.mixture(start=np.argsort(order)[labels])
    fit(mixture, X, sample_weight=weights)
    fit(permuted, X, sample_weight=weights)
    assert_same(mixture, permuted, tolerance=rounding_of(problem), order=order)


@given(problems(**SMOOTH, start=st.just("labels"), dtype=st.just("float64")))
def test_scale_and_offset_move_the_parameters_and_nothing_else(problem):
    X, weights = problem.standard_rows, problem.sample_weight
    moved = problem.moved(X)
    # Powers of two and a grid: the rows that are moved are exact.
    assume(np.array_equal((moved - problem.offset) / problem.scale, X))
    standard = problem.mixture(regularization=problem.regularization / problem.scale**2)
    fit(standard, X, sample_weight=weights)
    mixture = fit(problem.mixture(), moved, sample_weight=weights)
    tolerance = rounding_of(problem) + kept_rounding_of(problem)
    assert_same(standard, mixture, tolerance=tolerance, scale=problem.scale, offset=problem.offset)
    shift = problem.features * np.log(problem.scale)
    assert mixture.lower_bound_ + shift == pytest.approx(standard.lower_bound_, abs=tolerance)


@given(problems(**SMOOTH, start=st.just("labels")))
def test_batches_change_nothing(problem):
    X, weights = problem.rows, problem.sample_weight
    mixture = fit(problem.mixture(), X, sample_weight=weights)
    whole = fit(problem.mixture(batch_size=None), X, sample_weight=weights)
    assert mixture.n_iter_ == whole.n_iter_
    assert_same(mixture, whole, tolerance=rounding_of(problem))


@given(problems(**SMOOTH, start=st.just("labels"), is_weighted=st.just(True)))
def test_weights_are_repetitions(problem):
    X, weights = problem.rows, problem.sample_weight
    mixture = problem.mixture()
    labels = mixture.get_params()[mixture._vocabulary.start]
    fit(mixture, X, sample_weight=weights)
    repeated = problem.mixture(start=np.repeat(labels, weights))
    fit(repeated, np.repeat(X, weights, axis=0))
    # Weights are divided by their mean, and the variance that is kept by the weight of a component.
    assert_same(mixture, repeated, tolerance=rounding_of(problem) + kept_rounding_of(problem))
