"""Every row reaches the loop once."""

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from sklearn_torch_gmm import GaussianMixture
from sklearn_torch_gmm.rows.in_memory import ArrayRows
from sklearn_torch_gmm.rows.indexed import DatasetRows
from sklearn_torch_gmm.rows.random_numbers import RandomNumbers
from sklearn_torch_gmm.rows.source import SAMPLE_ROWS


class Rows(Dataset):
    def __init__(self, rows):
        self.rows = rows
        self.fetched = 0

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        self.fetched += 1
        return self.rows[index]


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    return np.vstack([rng.normal(size=(31, 2)), rng.normal(size=(30, 2)) + 5])


@pytest.mark.parametrize("batch_size", [1, 7, 61, 1000, None])
@pytest.mark.parametrize("source", [ArrayRows, lambda X: DatasetRows(Rows(X))])
def test_batches_hold_each_row_once_and_in_order(X, source, batch_size):
    batches = source(X).batches(batch_size, num_workers=0)
    for _ in range(2):
        np.testing.assert_array_equal(torch.cat([rows for rows, *_ in batches]), X)
    assert len(batches) == -(-len(X) // min(batch_size or len(X), len(X)))


def test_weights_travel_with_their_rows(X):
    weights = np.arange(len(X), dtype=float)
    batches = ArrayRows(X, weights).batches(10, num_workers=0)
    for rows, part in batches:
        np.testing.assert_array_equal(rows, X[part.long().numpy()])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("batch_size", [None, 10])
def test_batches_of_an_array_are_views_that_come_again(X, order, batch_size):
    X = np.asarray(X, order=order)
    batches = ArrayRows(X).batches(batch_size, num_workers=0)
    (rows,) = next(iter(batches))
    assert rows.data_ptr() == X.ctypes.data
    assert batches.resident_rows == len(X)


def test_rows_of_a_file_may_not_stay_in_memory(tmp_path, X):
    np.save(tmp_path / "X.npy", X)
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert ArrayRows(X).batches(10, num_workers=0).resident_rows is None


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(Rows, id="array rows"),
        pytest.param(lambda X: Rows(X.astype(np.float32)), id="float32 rows"),
        pytest.param(lambda X: Rows(X.tolist()), id="lists"),
        pytest.param(lambda X: TensorDataset(torch.tensor(X)), id="tuples of one"),
        pytest.param(
            lambda X: TensorDataset(torch.tensor(X), torch.zeros(len(X))), id="rows with labels"
        ),
    ],
)
@pytest.mark.parametrize("batch_size", [7, None])
def test_a_dataset_gives_what_its_array_gives(X, wrap, batch_size):
    by_array = GaussianMixture(2, random_state=0).fit(X)
    dataset = wrap(X)
    by_dataset = GaussianMixture(2, random_state=0, batch_size=batch_size).fit(dataset)
    # Rows of float32 are stored to 6e-8.
    np.testing.assert_allclose(by_dataset.means_, by_array.means_, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(by_dataset.predict(dataset), by_array.predict(X))
    assert not hasattr(by_dataset, "labels_")
    np.testing.assert_array_equal(
        GaussianMixture(2, random_state=0).fit_predict(dataset), by_array.labels_
    )
    assert by_dataset.score(dataset) == pytest.approx(by_array.score(X), rel=1e-6)


def test_a_dataset_is_read_by_workers_when_asked(X):
    by_array = GaussianMixture(2, random_state=0).fit(X)
    mixture = GaussianMixture(2, random_state=0, batch_size=20, num_workers=1)
    mixture.fit(TensorDataset(torch.tensor(X)))
    np.testing.assert_allclose(mixture.means_, by_array.means_, rtol=1e-9)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Rows(np.zeros((0, 2))), "0 sample"),
        (Rows(np.zeros((4, 2, 2))), r"sample of shape \[D\].*got shape \[2, 2\]"),
        (Rows(np.zeros((3, 2))), "Expected n_samples >= num_components"),
    ],
)
def test_bad_datasets_are_refused(dataset, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(4).fit(dataset)


def test_a_large_dataset_is_started_from_a_random_sample():
    rows = torch.arange(float(SAMPLE_ROWS + 10)).unsqueeze(1)
    source = DatasetRows(TensorDataset(rows))
    sample = source.starting_rows(2, RandomNumbers(0)).rows
    assert sample.shape == (SAMPLE_ROWS, 1)
    assert len(np.unique(sample)) == SAMPLE_ROWS
    again = source.starting_rows(2, RandomNumbers(0)).rows
    np.testing.assert_array_equal(sample, again)


def test_an_array_in_host_memory_is_sampled_only_if_asked():
    rows = ArrayRows(np.arange(SAMPLE_ROWS + 10.0)[:, None])
    random = RandomNumbers(0)
    assert rows.starting_rows(2, random).rows.shape == (SAMPLE_ROWS + 10, 1)
    assert random.is_untouched
    sample = rows.starting_rows(2, RandomNumbers(0), always_samples=True).rows
    assert sample.shape == (SAMPLE_ROWS, 1)
