"""Arithmetic in float32 is exact enough, and takes the fast path on ordinary data."""

import warnings

import numpy as np
import pytest
import torch
from sklearn import datasets
from sklearn.decomposition import PCA

from sklearn_torch_gmm.core.rounding import TOLERATED_BESIDE_CHANGES
from sklearn_torch_gmm.em.accuracy import Accuracy
from sklearn_torch_gmm.mixture import GaussianMixture
from tests.estimators import TYPES


def digits():
    return PCA(20, random_state=0).fit_transform(datasets.load_digits().data)


DATA = {
    "iris": (lambda: datasets.load_iris().data, 3),
    "wine": (lambda: datasets.load_wine().data, 3),
    "digits": (digits, 10),
    "blobs": (lambda: datasets.make_blobs(2000, 16, centers=10, random_state=0)[0], 10),
}


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("data", DATA)
def test_a_fit_in_float32_is_as_in_float64(monkeypatch, data, name):
    make, components = DATA[data]
    X = make().astype(np.float32)
    chosen = []
    choose = Accuracy.ways
    monkeypatch.setattr(Accuracy, "ways", lambda *args: chosen.append(0) or choose(*args))

    def fit(precision):
        found = GaussianMixture(
            components, covariance_type=name, random_state=0,
            trainer_params={"precision": precision, "accelerator": "cpu"},
        ).fit(X)  # fmt: skip
        return found, found.score_samples(X.astype(np.float64))

    expected, log_densities = fit("64-true")
    assert not chosen
    found, others = fit("32-true")
    # Ten components of digits are narrow, with full covariances.
    assert bool(chosen) == (data == "digits" and name == "full")
    assert found.n_iter_ == expected.n_iter_
    assert np.abs(others - log_densities).mean() < TOLERATED_BESIDE_CHANGES[torch.float32]


@pytest.mark.parametrize("acceleration", [None, "squarem"])
def test_a_tolerance_is_not_finer_than_the_rounding(acceleration):
    """Groups far apart, with heavy tails: the log-densities of a fast pass would be off by more."""
    rng = np.random.default_rng(44)
    X = rng.standard_normal((500, 2)) * np.exp(0.5 * rng.standard_normal((500, 1)))
    X += np.array([[24.0, 0.0], [-24.0, 0.0]])[rng.integers(0, 2, 500)]
    X = X.astype(np.float32)
    single, double = (
        GaussianMixture(
            8,
            covariance_type="spherical",
            tol=1e-4,
            max_iter=500,
            random_state=0,
            acceleration=acceleration,
            trainer_params={"precision": precision, "accelerator": "cpu"},
        ).fit(X)
        for precision in ("32-true", "64-true")
    )
    # With passes that are off by up to 1e-3 nats, it would end after a third of the iterations.
    assert single.n_iter_ == pytest.approx(double.n_iter_, rel=0.1)


@pytest.mark.parametrize(("offset", "is_told"), [(1e4, False), (1e7, True)])
def test_values_that_float32_hardly_tells_apart_are_named(offset, is_told):
    X = np.random.default_rng(0).normal(size=(200, 3))
    X[:, 1] += offset
    X[:, 2] = 0.1  # the mean of equal values is rounded
    mixture = GaussianMixture(2, random_state=0, trainer_params={"precision": "32-true"})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mixture.fit(X)
    messages = [str(one.message) for one in caught]
    assert is_told == any("the values of feature 1 apart" in message for message in messages)
    assert not any("of feature 2" in message for message in messages)
    assert all(one.filename == __file__ for one in caught)
