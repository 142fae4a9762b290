"""Maximum likelihoods that another program found and published, on data that everybody has.

mclust is R's package for Gaussian mixtures; in brackets below are its names of the covariance
types. Its BIC has the other sign: 2 log p(X) - log(N) · number of free parameters.
"""

from pathlib import Path

import numpy as np
import pytest

import sklearn_torch_gmm
from sklearn_torch_gmm import mixture

FAITHFUL = Path(__file__).parents[1] / "data" / "faithful.csv"


@pytest.fixture
def faithful():
    X = np.loadtxt(FAITHFUL, delimiter=",", comments="#", skiprows=7)
    assert X.shape == (272, 2)
    # What R's `summary(faithful)` prints.
    np.testing.assert_allclose(X.mean(axis=0), [3.488, 70.9], atol=5e-3)
    return X


def make_drop_in(components, covariance_type):
    return mixture.GaussianMixture(
        components, covariance_type=covariance_type, n_init=20, tol=1e-8, random_state=0
    )


def make_torch_mixture(components, covariance_type):
    return sklearn_torch_gmm.GaussianMixture(
        components,
        covariance_type=covariance_type,
        convergence_tolerance=1e-8,
        num_init=20,
        random_state=0,
        trainer_params={"max_epochs": 300},
    )


each_class = pytest.mark.parametrize("make", [make_drop_in, make_torch_mixture])


@each_class
def test_old_faithful_tied_with_3_components(faithful, make):
    """(EEE) log p(X) = -1126.326, BIC = -2314.316: vignette "A quick tour of mclust", clustering.

    mclust stops a hundredth below the maximum at its default tolerance, and we go on.
    """
    fitted = make(3, "tied").fit(faithful)
    assert fitted.converged_
    log_likelihood = 272 * fitted.score(faithful)
    assert -1126.326 < log_likelihood < -1126.25
    assert fitted.bic(faithful) == pytest.approx(2314.316, abs=0.05)


@each_class
def test_old_faithful_full_with_2_components(faithful, make):
    """(VVV) BIC = -2322.192 in the table that `mclustBIC(faithful)` prints.

    With 11 free parameters this is log p(X) = -1130.264.
    """
    fitted = make(2, "full").fit(faithful)
    assert fitted.converged_
    assert fitted.bic(faithful) == pytest.approx(2322.192, abs=1e-3)
    assert 272 * fitted.score(faithful) == pytest.approx(-1130.264, abs=5e-4)
