"""A feature in seconds since 1970: the same mixture as in seconds since the first row."""

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture as ScikitLearnMixture

from sklearn_torch_gmm import GaussianMixture, GaussianMixtureIC
from sklearn_torch_gmm.mixture import GaussianMixture as DropIn

START = np.array([1_700_000_000.0, 0.0])
"""A second of November 2023, about 2^30.7, and no offset for the other feature."""

TYPES = ["full", "tied", "diag", "spherical"]


@pytest.fixture(scope="module")
def since_first():
    """Three bursts within a minute, each with a level of its own; exact at either origin."""
    rng = np.random.default_rng(0)
    burst = rng.integers(3, size=400)
    seconds = 10.0 + 20.0 * burst + rng.normal(size=400)
    return np.column_stack([seconds, 5.0 * burst + rng.normal(size=400)]).round() * [1.0, 0.5]


def assert_same_fit(there, here):
    assert there.n_iter_ == here.n_iter_
    # Of seconds near 2^31 the last bit is 2^-22, of their covariances about as much.
    np.testing.assert_allclose(there.lower_bounds_, here.lower_bounds_, atol=1e-6)
    np.testing.assert_allclose(there.means_ - START, here.means_, atol=1e-6)
    np.testing.assert_allclose(there.covariances_, here.covariances_, rtol=1e-5, atol=1e-6)


def assert_same_predictions(there, here, X):
    moved = X + START
    np.testing.assert_array_equal(there.predict(moved), here.predict(X))
    np.testing.assert_allclose(there.score_samples(moved), here.score_samples(X), atol=1e-4)
    assert there.bic(moved) == pytest.approx(here.bic(X), abs=1e-3)


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("start", ["kmeans", "kmeans++", "random", "means", "function"])
@pytest.mark.parametrize("batch_size", [None, 150])
def test_documented_class(since_first, covariance_type, start, batch_size):
    def fit(X):
        options = {
            "means": {"init_means": X[:3]},
            "function": {"init_strategy": lambda rows, components, random_state: rows[:components]},
        }.get(start, {"init_strategy": start})
        return GaussianMixture(
            3,
            covariance_type=covariance_type,
            covariance_regularization=1e-3,
            batch_size=batch_size,
            random_state=0,
            trainer_params={"max_epochs": 200},
            **options,
        ).fit(X)

    here, there = fit(since_first), fit(since_first + START)
    assert_same_fit(there, here)
    assert_same_predictions(there, here, since_first)


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("start", ["kmeans", "k-means++", "random", "random_from_data"])
def test_drop_in(since_first, covariance_type, start):
    # Single rows start about the origin, as in scikit-learn; far away, about the first of them.
    origin = since_first[0] if start in ("k-means++", "random_from_data") else 0.0
    X = since_first - origin

    def fit(X):
        return DropIn(
            3, covariance_type=covariance_type, init_params=start, reg_covar=0.1, max_iter=300,
            random_state=0,
        ).fit(X)  # fmt: skip

    here, there = fit(X), fit(X + START)
    assert_same_fit(there, here)
    assert_same_predictions(there, here, X)


def test_choice_of_the_number_of_components(since_first):
    options = {"covariance_type": "full", "random_state": 0}
    here, there = (
        GaussianMixtureIC(max_components=4, **options).fit(X)
        for X in (since_first, since_first + START)
    )
    np.testing.assert_allclose(there.results_["bic"], here.results_["bic"], rtol=1e-9)


@pytest.mark.parametrize("covariance_type", ["diag", "spherical"])
@pytest.mark.parametrize("offset", [0.0, 1.7e9])
def test_a_few_samples_that_differ_keep_their_variance(covariance_type, offset):
    """scikit-learn's value for equal samples would be 10 eps μ² / 4, which is 1600 here."""
    X = np.concatenate([np.arange(100.0), 5000 + np.arange(4.0)])[:, None] + offset
    mixture = DropIn(2, covariance_type=covariance_type, random_state=0).fit(X)
    variances = np.sort(mixture.covariances_.ravel())
    # Seconds since 1970 are rounded to 2.4e-7.
    np.testing.assert_allclose(variances, [1.25 + 1e-6, 833.25 + 1e-6], rtol=1e-6)


@pytest.mark.parametrize("covariance_type", ["diag", "spherical"])
def test_components_of_a_few_equal_samples_are_not_as_wide_as_the_data(covariance_type):
    """scikit-learn's variance of a single row, 10 eps μ², is 10,000 here."""
    X = np.random.default_rng(0).standard_t(3, size=(40, 2)).round(2)
    here, there = (
        DropIn(6, covariance_type=covariance_type, random_state=0).fit(data)
        for data in (X.astype(np.float32), X.astype(np.float32).astype(np.float64) + 2.0**31)
    )
    assert there.n_iter_ == here.n_iter_
    np.testing.assert_array_equal(np.diff(there.lower_bounds_) > 0, np.diff(here.lower_bounds_) > 0)
    # As in the other tests, up to the rounding of the data to 2^-22.
    np.testing.assert_allclose(there.means_ - 2.0**31, here.means_, atol=1e-6)
    np.testing.assert_allclose(there.covariances_, here.covariances_, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("constant", [0.1, 7.3, 1e4])
@pytest.mark.parametrize("covariance_type", ["diag", "spherical"])
def test_a_constant_feature_keeps_the_variance_that_rounding_leaves(covariance_type, constant):
    """Without regularization, scikit-learn fits components of a few samples thanks to it."""
    values = np.random.default_rng(1).normal([0.0, 0.0, 5.0, 5.0], 0.01)
    X = np.column_stack([values, np.full(4, constant)])
    options = {"covariance_type": covariance_type, "reg_covar": 0.0, "random_state": 0}
    ours, theirs = (cls(2, **options).fit(X) for cls in (DropIn, ScikitLearnMixture))
    # scikit-learn's variances themselves are rounding errors of that size.
    np.testing.assert_allclose(ours.covariances_, theirs.covariances_, rtol=0.5)
