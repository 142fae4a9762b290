"""Clusters of an earlier fit are those that K-means would find, and take little memory."""

import threading
import warnings
from contextlib import closing

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_torch_gmm import GaussianMixtureIC
from sklearn_torch_gmm.em import recent_clusters as module
from sklearn_torch_gmm.em.recent_clusters import recent_clusters, recent_or_new
from sklearn_torch_gmm.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn_torch_gmm.rows.random_numbers import RandomNumbers
from sklearn_torch_gmm.rows.source import StartingRows

TYPES = ["full", "tied", "diag", "spherical"]


@pytest.fixture
def X(rng):
    return rng.normal(size=(200, 3)) + 4.0 * rng.integers(3, size=(200, 1))


def parameters_of(mixture):
    return np.concatenate([mixture.means_.ravel(), mixture.covariances_.ravel(), mixture.weights_])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("starts", [1, 3])
def test_covariance_types_share_the_clusters_and_change_nothing(X, sizes_found, starts, weighted):
    weights = np.random.default_rng(1).uniform(0.5, 2.0, size=200) if weighted else None
    options = {"n_init": starts, "random_state": 0}
    own = [GaussianMixture(3, covariance_type=name, **options) for name in TYPES]
    for mixture in own:
        mixture.fit(X, sample_weight=weights)
    assert sizes_found == [3] * starts
    for mixture in own:
        recent_clusters.clear()
        alone = GaussianMixture(3, covariance_type=mixture.covariance_type, **options)
        alone.fit(X, sample_weight=weights)
        assert alone.n_iter_ == mixture.n_iter_
        np.testing.assert_array_equal(parameters_of(alone), parameters_of(mixture))
    assert sizes_found == [3] * starts * 5


def test_a_search_finds_the_clusters_of_a_fold_once(X, sizes_found):
    grid = {"gaussianmixture__n_components": [1, 2, 4], "gaussianmixture__covariance_type": TYPES}
    steps = StandardScaler(), GaussianMixture(random_state=0)
    GridSearchCV(make_pipeline(*steps), grid, cv=2, refit=False).fit(X)
    assert sorted(sizes_found) == [2, 2, 4, 4]


def test_both_estimators_and_a_search_by_a_criterion_share_them(X, sizes_found):
    GaussianMixtureIC(2, 3, random_state=0, n_init=2).fit(X)
    assert sorted(sizes_found) == [2, 2, 3, 3]
    BayesianGaussianMixture(n_components=3, random_state=0, n_init=2).fit(X)
    GaussianMixtureIC(2, 3, random_state=0, n_init=2, criterion="aic").fit(X)
    assert len(sizes_found) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"random_state": 1},
        {"n_components": 4},
        {"n_init": 2},
        {"random_state": np.random.RandomState(0)},
        {"random_state": None},
    ],
    ids=lambda change: str(*change),
)
def test_other_runs_are_done(X, sizes_found, change):
    GaussianMixture(3, random_state=0).fit(X)
    GaussianMixture(**{"n_components": 3, "random_state": 0, **change}).fit(X)
    assert len(sizes_found) == 1 + change.get("n_init", 1)


def test_other_rows_or_weights_are_other_data(X, sizes_found):
    swapped, last_bit = X.copy(), X.copy()
    swapped[[0, 1]] = X[[1, 0]]
    last_bit[-1, -1] = np.nextafter(X[-1, -1], np.inf)
    weights = np.ones(200)
    weights[0] = 2.0
    for rows, own in [
        (X, None),
        (X.astype(np.float32), None),
        (X[:-1], None),
        (X.reshape(300, 2), None),
        (swapped, None),
        (last_bit, None),
        (X, weights),
        (X, weights[::-1]),
    ]:
        GaussianMixture(2, random_state=0).fit(rows, sample_weight=own)
    assert len(sizes_found) == 8
    # The same values in another layout, in a tensor, or in a view are the same data.
    for rows in (np.asfortranarray(X), torch.from_numpy(X), np.repeat(X, 2, axis=0)[::2]):
        GaussianMixture(2, random_state=0).fit(rows)
    assert len(sizes_found) == 8


def test_nobody_else_draws_other_numbers(X):
    """A random state of the user's own ends up where K-means leaves it."""
    GaussianMixture(3, random_state=0).fit(X)
    own, other = np.random.RandomState(0), np.random.RandomState(0)
    GaussianMixture(3, random_state=own).fit(X)
    KMeans(3, n_init=1, random_state=other).fit(X)
    assert own.randint(2**31) == other.randint(2**31)


def labels_of(data, size, seed=0, runs=1):
    with closing(recent_or_new(data, [(size, RandomNumbers(seed))] * runs)) as found:
        return [one.labels for one in found]


def test_a_warning_of_k_means_comes_each_time():
    data = StartingRows(np.repeat(np.arange(2.0), 10)[:, np.newaxis])
    for _ in range(2):
        with pytest.warns(ConvergenceWarning, match="Number of distinct clusters"):
            labels_of(data, 3)


def test_the_least_recently_used_are_forgotten_first(X, sizes_found, monkeypatch):
    data = StartingRows(X)
    room = 2 * (module.BYTES_OF_KEY + len(X))
    monkeypatch.setattr(module, "BYTES_OF_RECENT", room)
    for size in (2, 3, 2, 4, 2, 3):
        labels_of(data, size)
    # Of 2, 3 and 4 components, there is room for two: 3 made way for 4.
    assert sizes_found == [2, 3, 4, 3]
    # More than the room, which takes no time for a look either.
    monkeypatch.setattr(module, "_hash_of_data", None)
    assert len(labels_of(data, 2, runs=100)) == 100


def test_memory_is_bounded_for_any_number_of_runs(X, monkeypatch):
    monkeypatch.setattr(module, "BYTES_OF_RECENT", 100_000)
    for number in range(50):
        labels_of(StartingRows(X[: 100 + number]), 2, runs=1 + number % 3)
        assert 0 < recent_clusters.num_bytes <= 100_000


def test_what_a_caller_does_with_the_labels_does_not_change_them(X):
    data = StartingRows(X)
    (first,) = labels_of(data, 3)
    expected = first.copy()
    first[:] = 0
    for _ in range(2):
        (again,) = labels_of(data, 3)
        np.testing.assert_array_equal(again, expected)
        assert again.dtype == np.int32
        again[:] = 0


def test_more_than_256_components_are_kept(rng, sizes_found):
    data = StartingRows(rng.normal(size=(600, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (first,), (again,) = labels_of(data, 300), labels_of(data, 300)
    assert sizes_found == [300]
    np.testing.assert_array_equal(first, again)


def test_a_run_that_is_not_finished_is_not_kept(X, sizes_found):
    data = StartingRows(X)
    with closing(recent_or_new(data, [(2, RandomNumbers(0))] * 3)) as found:
        next(found)
    labels_of(data, 2, runs=3)
    assert sizes_found == [2] * 4


def test_threads_find_what_each_would_find_alone(X, monkeypatch):
    monkeypatch.setattr(module, "BYTES_OF_RECENT", 50_000)
    data = [StartingRows(X[: 150 + number]) for number in range(5)]
    expected = [labels_of(own, 3)[0] for own in data]
    errors = []

    def work(start):
        try:
            for step in range(30):
                number = (start + step) % 5
                np.testing.assert_array_equal(labels_of(data[number], 3)[0], expected[number])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
