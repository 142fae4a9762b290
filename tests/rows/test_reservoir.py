"""The sample of rows that come one after another."""

import numpy as np
import pytest

from sklearn_torch_gmm.rows.reservoir import Reservoir


@pytest.mark.parametrize("batch_size", [1, 7, 100, 1000])
def test_a_reservoir_depends_on_the_seed_and_the_rows_alone(batch_size):
    rows = np.arange(1000.0).reshape(500, 2)
    whole = Reservoir(60, np.random.RandomState(3))
    whole.add(rows)
    batches = Reservoir(60, np.random.RandomState(3))
    for first in range(0, 500, batch_size):
        batches.add(rows[first : first + batch_size])
    np.testing.assert_array_equal(batches.rows(), whole.rows())
    assert whole.seen == batches.seen == 500
    assert len(np.unique(whole.rows()[:, 0])) == 60
    assert (np.diff(whole.rows()[:, 0]) > 0).all()


def test_a_reservoir_chooses_each_row_equally_often():
    counts = np.zeros(20)
    random_state = np.random.RandomState(0)
    for _ in range(2000):
        reservoir = Reservoir(5, random_state)
        for first in range(0, 20, 3):
            reservoir.add(np.arange(20.0)[first : first + 3, None])
        counts[reservoir.rows()[:, 0].astype(int)] += 1
    # 500 ± 19 is expected.
    assert (np.abs(counts - 500) < 5 * 19).all()


def test_no_random_number_is_drawn_where_all_rows_are_kept():
    random_state = np.random.RandomState(0)
    reservoir = Reservoir(10, random_state)
    reservoir.add(np.zeros((10, 1)))
    assert reservoir.rows().shape == (10, 1)
    assert random_state.random_sample() == np.random.RandomState(0).random_sample()
