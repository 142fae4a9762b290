"""A fit whose covariances do not fit into memory says so before it allocates them."""

import numpy as np
import pytest
from sklearn.base import clone

from sklearn_torch_gmm import GaussianMixture, GaussianMixtureClassifier, GaussianMixtureIC
from sklearn_torch_gmm import mixture as drop_in
from sklearn_torch_gmm._estimator import size
from sklearn_torch_gmm.impute import GaussianMixtureImputer

FULL = {"covariance_type": "full"}
SHORT = {**FULL, "random_state": 0, "tol": 1e300}
# Every estimator of four components.
ESTIMATORS = {
    "own": GaussianMixture(4, **FULL, convergence_tolerance=1e300, random_state=0),
    "drop-in": drop_in.GaussianMixture(4, **SHORT),
    "bayesian": drop_in.BayesianGaussianMixture(n_components=4, **SHORT),
    "search": GaussianMixtureIC(4, 4, **SHORT, n_init=1),
    "imputer": GaussianMixtureImputer(4, **SHORT),
}


@pytest.fixture
def small_limit(monkeypatch):
    monkeypatch.setattr(size, "LEAST_BYTES", 1000)


@pytest.fixture
def transposed():
    """Twenty features of 4 samples as 4 features of 20: 20 · 21 / 2 parameters in each matrix."""
    return np.random.default_rng(0).normal(size=(4, 20))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_more_than_an_address_can_count_is_refused_at_once(name):
    # 4 matrices of 2e6 × 2e6 float64 take 128 TB, and four copies more than 2 ** 48 bytes.
    X = np.zeros((5, 2_000_000), np.float32)
    match = r"2000000 features .*'full'.* take 119,209\.3 GiB, .*: more .*X has 5 samples and"
    estimator = clone(ESTIMATORS[name])
    with pytest.raises(MemoryError, match=match):
        estimator.fit(X)
    assert not hasattr(estimator, "n_features_in_")


def test_the_classifier_is_refused_as_well():
    classifier = GaussianMixtureClassifier(2, covariance_type="tied")
    with pytest.raises(MemoryError, match=r"pass X\.T"):
        classifier.fit(np.zeros((5, 4_000_000), np.float32), [0, 0, 1, 1, -1])


def test_an_update_is_refused_as_well():
    mixture = drop_in.GaussianMixture(4, **FULL)
    with pytest.raises(MemoryError, match=r"pass X\.T"):
        mixture.partial_fit(np.zeros((5, 2_000_000), np.float32))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_many_parameters_for_each_value_are_warned_of(name, small_limit, transposed, recwarn):
    clone(ESTIMATORS[name]).fit(transposed)
    (warning,) = [w for w in recwarn if w.category is UserWarning]
    # Four matrices of 210 parameters, for 80 values.
    assert "with 10 parameters for each value of X. X has 4 samples" in str(warning.message)
    assert warning.filename == __file__


@pytest.mark.parametrize("kind", ["tied", "diag", "spherical"])
def test_few_parameters_are_not(kind, small_limit, transposed):
    drop_in.GaussianMixture(4, **{**SHORT, "covariance_type": kind}).fit(transposed)


def test_the_same_matrix_the_other_way_round_is_not(small_limit, transposed):
    drop_in.GaussianMixture(4, **SHORT).fit(transposed.T)


def test_a_small_batch_of_much_data_is_not(small_limit, transposed):
    drop_in.GaussianMixture(4, **FULL, random_state=0).partial_fit(transposed)


def test_nothing_is_asked_below_the_limit(transposed):
    assert size.LEAST_BYTES > 4 * 8 * 20**2
    drop_in.GaussianMixture(4, **SHORT).fit(transposed)


def test_all_initializations_and_all_mixtures_count(monkeypatch):
    # 2 initializations of 1 + 2 matrices of 3 × 3, in float64.
    monkeypatch.setattr(size, "LEAST_BYTES", 2 * 3 * 9 * 8)
    search = GaussianMixtureIC(1, 2, **{**SHORT, "n_init": 2})
    X = np.random.default_rng(0).normal(size=(2, 3))
    monkeypatch.setattr(size, "PARAMETERS_PER_VALUE", 2)
    with pytest.warns(UserWarning, match="of 2 components .*, and of 1 smaller mixtures,"):
        search.fit(X)
    monkeypatch.setattr(size, "LEAST_BYTES", 2 * 3 * 9 * 8 + 1)
    search.fit(X)
