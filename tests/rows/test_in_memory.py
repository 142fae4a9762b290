"""Arrays in mapped files, and those that a device has no room for."""

import numpy as np
import pytest

from sklearn_torch_gmm.rows import in_memory as arrays
from sklearn_torch_gmm.rows import source as data
from sklearn_torch_gmm.rows.in_memory import ArrayRows, MappedFile, rows_a_batch
from sklearn_torch_gmm.rows.random_numbers import RandomNumbers
from tests.rows.examples import NUM_ROWS, mapped, sorted_by_component


@pytest.fixture
def X():
    return sorted_by_component()


def test_a_mapped_file_is_sent_by_its_name(X, tmp_path):
    part = mapped(X, tmp_path)[5:]
    rows = ArrayRows(part)
    assert rows.file.shape == (NUM_ROWS - 5, 3)
    np.testing.assert_array_equal(rows.file.open(), X[5:])
    state = rows.__getstate__()
    assert "rows" not in state
    copy = ArrayRows.__new__(ArrayRows)
    copy.__setstate__(state)
    np.testing.assert_array_equal(copy.rows, X[5:])
    assert MappedFile.behind(X) is None
    assert MappedFile.behind(part[:, :2]) is None


def test_a_private_map_is_not_what_is_in_its_file(tmp_path):
    np.save(tmp_path / "X.npy", np.zeros((9, 2)))
    assert MappedFile.behind(np.load(tmp_path / "X.npy", mmap_mode="r+")) is not None
    assert MappedFile.behind(np.load(tmp_path / "X.npy", mmap_mode="c")) is None


def test_a_large_file_is_started_from_a_sample(X, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "SAMPLE_ROWS", 50)
    rows = ArrayRows(mapped(X, tmp_path))
    assert rows.starting_rows(1, RandomNumbers(0)).rows.shape == X.shape
    monkeypatch.setattr(arrays, "MAPPED_BYTES", 100)
    monkeypatch.setattr(data, "sample_size", lambda num_components: 50)
    sample = rows.starting_rows(1, RandomNumbers(0)).rows
    assert sample.shape == (50, 3)
    np.testing.assert_array_equal(sample, rows.starting_rows(1, RandomNumbers(0)).rows)


@pytest.mark.parametrize("num_labelled", [7, NUM_ROWS])
def test_a_sample_to_start_from_holds_rows_with_a_label(X, tmp_path, monkeypatch, num_labelled):
    monkeypatch.setattr(arrays, "MAPPED_BYTES", 100)
    monkeypatch.setattr(data, "sample_size", lambda num_components: 50)
    labels = np.full(NUM_ROWS, -1)
    labels[-num_labelled:] = np.arange(num_labelled) % 2
    rows = ArrayRows(mapped(X, tmp_path), np.arange(float(NUM_ROWS)), labels)
    sample = rows.starting_rows(1, RandomNumbers(0))
    # All of them if they are few, otherwise a sample in addition to that of all rows.
    assert 50 <= len(sample.rows) <= 50 + min(50, num_labelled)
    assert (sample.labels >= 0).sum() >= min(50, num_labelled)
    chosen = sample.weights.astype(int)
    np.testing.assert_array_equal(sample.rows, X[chosen])
    np.testing.assert_array_equal(sample.labels, labels[chosen])


@pytest.mark.parametrize("weights", [None, np.arange(1.0, NUM_ROWS + 1)])
def test_batches_of_rows_with_labels_have_weights_too(X, weights):
    labels = np.arange(NUM_ROWS) % 3 - 1
    parts = list(ArrayRows(X, weights, labels).batches(20))
    rows, found, own = (np.concatenate(part) for part in zip(*parts, strict=True))
    np.testing.assert_array_equal(rows, X)
    np.testing.assert_array_equal(found, np.ones(NUM_ROWS) if weights is None else weights)
    np.testing.assert_array_equal(own, labels)


@pytest.mark.parametrize(
    ("num_rows", "free", "expected"),
    [
        (1000, 160_000, None),
        (1001, 160_000, 250),
        (10**9, 10**9, 1562500),
        (10**12, 80 * 10**9, 8 * (2**25 // 80)),
        (10, 1, 1),
    ],
)
def test_batches_for_a_device_that_has_no_room_for_all_rows(num_rows, free, expected):
    assert rows_a_batch(num_rows, 80, free) == expected
