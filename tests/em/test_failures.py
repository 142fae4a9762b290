"""A covariance that cannot be used ends the fit with the component, the reason and a remedy."""

import re

import numpy as np
import pytest

from sklearn_torch_gmm import GaussianMixture, mixture
from sklearn_torch_gmm.core.covariance import STRUCTURES
from sklearn_torch_gmm.exceptions import IllDefinedCovarianceError

TYPES = sorted(STRUCTURES)


def collapsed():
    return np.repeat([[0.0, 1.0], [3.0, 5.0]], 10, axis=0)


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e6])
def test_the_remedy_in_the_message_works(covariance_type, scale):
    X = collapsed() * scale
    params = {"covariance_type": covariance_type, "random_state": 0}
    with pytest.raises(IllDefinedCovarianceError) as caught:
        GaussianMixture(2, covariance_regularization=0.0, **params).fit(X)
    message = str(caught.value)
    assert "ill-defined empirical covariance" in message
    assert re.search(r"Component \d has weight 0\.5 and a covariance whose smallest", message)
    remedy = float(re.search(r"covariance_regularization=(\S+) is sufficient", message).group(1))
    assert remedy < scale**2
    mixture = GaussianMixture(2, covariance_regularization=remedy, **params).fit(X)
    assert np.isfinite(mixture.means_).all()


def test_a_mean_whose_square_overflows_has_a_remedy_too():
    X = np.array([[0.0], [1.0], [2.0], [1e171]])
    with pytest.raises(IllDefinedCovarianceError, match="covariance_regularization=1e\\+308 is"):
        GaussianMixture(2, covariance_regularization=0.0, random_state=0).fit(X)


def test_it_is_a_value_error():
    assert issubclass(IllDefinedCovarianceError, ValueError)


def test_the_estimator_stays_usable():
    mixture = GaussianMixture(2, covariance_regularization=0.0, random_state=0)
    with pytest.raises(IllDefinedCovarianceError):
        mixture.fit(collapsed())
    mixture.set_params(covariance_regularization=1e-6).fit(collapsed())
    np.testing.assert_allclose(np.sort(mixture.means_[:, 0]), [0.0, 3.0], atol=1e-12)


@pytest.mark.parametrize("start", ["kmeans", "random"])
@pytest.mark.parametrize("covariance_type", TYPES)
def test_rows_whose_sum_overflows_are_to_be_divided(covariance_type, start):
    # Each row is finite, and so is their mean; the sum on the way to it is not.
    X = np.random.default_rng(0).uniform(0.5, 1.7, size=(60, 2)) * 1e308
    params = {"covariance_type": covariance_type, "init_strategy": start, "random_state": 0}
    with pytest.raises(IllDefinedCovarianceError, match="divide the data by the largest"):
        GaussianMixture(2, **params).fit(X)
    assert np.isfinite(GaussianMixture(2, **params).fit(X / 1e308).means_).all()


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_no_divisor_is_named_if_the_means_are_lost_too(covariance_type):
    X = 1e154 * np.random.default_rng(0).normal(size=(300, 2))
    estimator = mixture.BayesianGaussianMixture(
        n_components=2, covariance_type=covariance_type, random_state=0
    )
    with pytest.raises(IllDefinedCovarianceError, match="the data by the largest of their values"):
        estimator.fit(X)


def test_a_covariance_that_is_rounding_error_may_be_repaired_by_later_iterations():
    """As scikit-learn's fits go on: its Cholesky factor exists in 20 of these 30, too."""
    ended = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        groups = [rng.normal(size=(200, 3)) + 4 * rng.normal(size=3) for _ in range(3)]
        X = np.concatenate(groups)
        X[0] = 3e7
        fitted = mixture.GaussianMixture(3, random_state=seed, init_params="random_from_data")
        try:
            fitted.fit(X)
        except IllDefinedCovarianceError:
            continue
        ended += 1
        assert np.isfinite(fitted.lower_bounds_).all()
        # What it ends with is no rounding error: the long axis would be.
        assert np.linalg.cond(fitted.covariances_).max() < 1e15
    # 26 of 30, and 2 where such a covariance ends the fit at once; a factor's existence is luck.
    assert ended >= 15
