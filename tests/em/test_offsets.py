import numpy as np
import pytest

from sklearn_torch_gmm.em.offsets import FAR_FOR_SINGLE_ROWS, KEEPS_HALF, origin_of

ROWS = np.random.default_rng(0).normal(size=(50, 2))


def test_rows_near_the_origin_are_left_as_they_are():
    for rows in (ROWS, ROWS + 1e4, ROWS - [1e4, 0.0], np.zeros((3, 2)), 1e300 * ROWS):
        assert not origin_of(rows, KEEPS_HALF).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_origin_of_rows_far_away_is_one_of_them(dtype):
    rows = (ROWS.round(2) - [1e6, 0.0]).astype(dtype)
    origin = origin_of(rows, KEEPS_HALF)
    np.testing.assert_array_equal(origin, rows[0])
    assert origin.dtype == dtype
    assert not origin_of(rows, FAR_FOR_SINGLE_ROWS).any()


def test_a_constant_column_is_no_offset():
    assert not origin_of(np.column_stack([ROWS, np.full(50, 100.0)]), KEEPS_HALF).any()


def test_equal_rows_are_their_own_origin():
    np.testing.assert_array_equal(origin_of(np.full((3, 2), 5.0), FAR_FOR_SINGLE_ROWS), [5.0, 5.0])


def test_a_square_that_overflows():
    rows = 1e300 + 1e290 * ROWS
    np.testing.assert_array_equal(origin_of(rows, KEEPS_HALF), rows[0])
