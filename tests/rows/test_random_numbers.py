"""Random numbers are scikit-learn's, and made only where they are drawn."""

import pickle

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture as ScikitLearnMixture

from sklearn_torch_gmm.mixture import GaussianMixture
from sklearn_torch_gmm.rows import random_numbers
from sklearn_torch_gmm.rows.random_numbers import RandomNumbers


@pytest.mark.parametrize("seed", [3, np.int64(3), np.uint8(3), True])
def test_a_seed_gives_the_same_numbers_in_each_copy(seed):
    random = RandomNumbers(seed)
    assert (random.seed, type(random.seed), random.is_untouched) == (int(seed), int, True)
    early = random.copy()
    assert random.is_untouched
    assert random.state is random.state
    expected = np.random.RandomState(int(seed)).uniform(size=5)
    np.testing.assert_array_equal(random.state.uniform(size=3), expected[:3])
    assert not random.is_untouched
    late = pickle.loads(pickle.dumps(random.copy()))
    assert (late.seed, late.is_untouched) == (int(seed), False)
    np.testing.assert_array_equal(late.state.uniform(size=2), expected[3:])
    np.testing.assert_array_equal(random.state.uniform(size=2), expected[3:])
    np.testing.assert_array_equal(early.state.uniform(size=5), expected)


def test_a_state_of_the_users_is_drawn_from_itself_but_not_by_copies():
    own = np.random.RandomState(0)
    random = RandomNumbers(own)
    assert (random.seed, random.is_untouched, random.state is own) == (None, False, True)
    copy = random.copy()
    assert (copy.seed, copy.is_untouched) == (None, False)
    assert copy.state.uniform() == np.random.RandomState(0).uniform() == own.uniform()
    assert RandomNumbers(None).state is np.random.mtrand._rand


def test_a_fit_that_draws_nothing_makes_none(monkeypatch, rng):
    X = rng.normal(size=(60, 2))
    start = {"weights_init": [0.5, 0.5], "means_init": X[:2], "precisions_init": [np.eye(2)] * 2}
    expected = ScikitLearnMixture(2, **start, random_state=0).fit(X)
    clusters = GaussianMixture(2, random_state=0).fit(X)
    monkeypatch.setattr(random_numbers, "check_random_state", None)
    found = GaussianMixture(2, **start, random_state=0).fit(X)
    np.testing.assert_allclose(found.means_, expected.means_, rtol=1e-9)
    assert found.n_iter_ == expected.n_iter_
    again = GaussianMixture(2, random_state=0).fit(X)
    np.testing.assert_array_equal(again.means_, clusters.means_)
