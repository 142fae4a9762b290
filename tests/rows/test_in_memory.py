"""Arrays in mapped files, and those that a device has no room for."""

import numpy as np
import pytest

from sklearn_torch_gmm.rows import in_memory as arrays
from sklearn_torch_gmm.rows import source as data
from sklearn_torch_gmm.rows.in_memory import ArrayRows, MappedFile, rows_a_batch
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
    random_state = np.random.RandomState
    assert rows.starting_rows(1, random_state(0)).rows.shape == X.shape
    monkeypatch.setattr(arrays, "MAPPED_BYTES", 100)
    monkeypatch.setattr(data, "sample_size", lambda num_components: 50)
    sample = rows.starting_rows(1, random_state(0)).rows
    assert sample.shape == (50, 3)
    np.testing.assert_array_equal(sample, rows.starting_rows(1, random_state(0)).rows)


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
