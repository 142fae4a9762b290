"""Data with gaps in several processes, and in a fit that is resumed."""

import os

import numpy as np
import pytest
from pytorch_lightning.callbacks import ModelCheckpoint

from sklearn_torch_gmm.mixture import GaussianMixture
from tests.estimators import TYPES

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # The threads of this process are not used in its copies.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

NUM_ROWS = 201


@pytest.fixture
def X(rng):
    X = rng.standard_normal((NUM_ROWS, 3)) + 4.0 * rng.integers(0, 2, (NUM_ROWS, 1))
    X[rng.random(X.shape) < 0.3] = np.nan
    # One of two processes sees no gap.
    X[NUM_ROWS // 2 :] = np.nan_to_num(X[NUM_ROWS // 2 :])
    return X


def fitted(name, X, ckpt_path=None, **options):
    options = {"tol": 0.0, "max_iter": 6, "random_state": 0, **options}
    return GaussianMixture(2, covariance_type=name, missing="em", **options).fit(
        X, ckpt_path=ckpt_path
    )


def assert_same_fit(actual, expected):
    for attribute in ("weights_", "means_", "covariances_", "lower_bounds_"):
        # Sums of 201 rows in another order.
        np.testing.assert_allclose(
            getattr(actual, attribute), getattr(expected, attribute), rtol=1e-10, atol=1e-10
        )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.parametrize("name", TYPES)
def test_two_processes_find_what_one_finds(name, X):
    forked = {"accelerator": "cpu", "devices": 2, "strategy": "ddp_fork"}
    assert_same_fit(fitted(name, X, trainer_params=forked, batch_size=40), fitted(name, X))


@pytest.mark.parametrize("name", TYPES)
def test_a_resumed_fit_is_one_that_was_not_interrupted(tmp_path, name, X):
    every = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    params = {"enable_checkpointing": True, "callbacks": [every]}
    fitted(name, X, trainer_params=params, max_iter=3)
    resumed = fitted(name, X, ckpt_path=tmp_path / "epoch=2.ckpt", batch_size=50)
    assert_same_fit(resumed, fitted(name, X))
