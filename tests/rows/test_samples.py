"""The sample that starts are computed from is the same, whatever the rows are read from."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from sklearn_torch_gmm import GaussianMixture
from sklearn_torch_gmm.mixture import GaussianMixture as DropIn
from sklearn_torch_gmm.rows import source, streams
from sklearn_torch_gmm.rows.in_memory import ArrayRows
from sklearn_torch_gmm.rows.kinds import is_read_in_pieces, source_of
from sklearn_torch_gmm.rows.random_numbers import RandomNumbers
from tests.rows.examples import (
    NUM_ROWS,
    ManyAtOnce,
    Map,
    Store,
    Stream,
    assert_same_fit,
    loader,
    mapped,
    sorted_by_component,
)

SIZE = 60

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

KINDS = {
    "array": lambda X, folder: X,
    "columns": lambda X, folder: np.asfortranarray(X),
    "file": mapped,
    "file of integers": lambda X, folder: mapped(np.round(100 * X).astype(np.int32), folder),
    "tensor": lambda X, folder: torch.tensor(X),
    "dataset": lambda X, folder: TensorDataset(torch.tensor(X)),
    "dataset of arrays": lambda X, folder: Map(X),
    "many at once": lambda X, folder: ManyAtOnce(X),
    "loader": lambda X, folder: loader(X, batch_size=40),
    "loader of a stream": lambda X, folder: DataLoader(Stream(X), batch_size=11),
    "stream": lambda X, folder: Stream(X),
    "store": lambda X, folder: Store(X),
}


@pytest.fixture
def X(monkeypatch):
    for module in (source, streams):
        monkeypatch.setattr(module, "sample_size", lambda num_components: SIZE)
    # So that the keys of an array are drawn in several parts.
    monkeypatch.setattr(source, "_KEYS_AT_ONCE", 50)
    return sorted_by_component()


def sample_of(data):
    """The rows, and the random number that K-means would draw next."""
    rows = source_of(data) if is_read_in_pieces(data) else ArrayRows(data)
    random = RandomNumbers(3)
    found = rows.starting_rows(2, random, always_samples=True).rows
    return found, random.state.random_sample()


@pytest.mark.parametrize("kind", [*KINDS, pytest.param("gpu", marks=[needs_gpu, pytest.mark.gpu])])
def test_rows_and_random_numbers_are_those_of_an_array(X, tmp_path, kind):
    make = KINDS.get(kind, lambda X, folder: torch.tensor(X, device="cuda"))
    data = make(X, tmp_path)
    if kind == "file of integers":
        X = np.round(100 * X)
    # By definition: the rows with the smallest of N random numbers, in their order.
    keys = np.random.RandomState(3).random_sample(NUM_ROWS)
    rows, after = sample_of(data)
    np.testing.assert_array_equal(rows, X[np.sort(np.argsort(keys)[:SIZE])])
    assert after == np.random.RandomState(3).random_sample(NUM_ROWS + 1)[-1]


@pytest.mark.parametrize("strategy", ["kmeans", "kmeans++", "random"])
def test_the_fit_is_that_of_an_array(X, tmp_path, strategy):
    mixture = GaussianMixture(
        2, init_strategy=strategy, num_init=2, random_state=1, convergence_tolerance=1e-6
    )
    expected = mixture.clone().fit(X)
    for kind in ("file", "dataset", "loader", "stream", "store"):
        assert_same_fit(mixture.clone().fit(KINDS[kind](X, tmp_path)), expected)


def test_a_start_is_from_the_sample_alone(X):
    """No iteration changes it: a fit to the sample starts from all of its rows."""
    sample, _ = sample_of(X)
    seen = []

    def means(rows, num_components, random_state):
        seen.append(rows)
        return rows[:num_components]

    options = {"trainer_params": {"max_epochs": 0}, "random_state": 3}
    mixture = GaussianMixture(2, init_strategy=means, **options)
    found, expected = mixture.clone().fit(X), mixture.clone().fit(sample)
    np.testing.assert_array_equal(*seen)
    np.testing.assert_array_equal(found.means_, expected.means_)
    np.testing.assert_array_equal(found.covariances_, expected.covariances_)


def test_given_labels_and_the_drop_in_start_from_all_rows(X):
    seen = []

    def means(rows, num_components, random_state):
        seen.append(len(rows))
        return rows[:num_components]

    DropIn(2, init_params=means, max_iter=0).fit(X)
    assert seen == [NUM_ROWS]
    labels = (np.arange(NUM_ROWS) >= 200).astype(int)
    params = {"max_epochs": 0}
    mixture = GaussianMixture(2, init_strategy=labels, trainer_params=params).fit(X)
    np.testing.assert_allclose(mixture.weights_, np.bincount(labels) / NUM_ROWS)
