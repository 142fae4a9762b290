import numpy as np
import pytest

from sklearn_torch_gmm.em.start_gaps import fill_gaps
from sklearn_torch_gmm.rows.source import StartingRows

NAN = np.nan


def test_gaps_are_filled_with_the_means_of_their_columns():
    rows = np.array([[1.0, NAN], [3.0, 5.0], [NAN, 7.0]])
    filled = fill_gaps(StartingRows(rows)).rows
    assert filled.tolist() == [[1.0, 6.0], [3.0, 5.0], [2.0, 7.0]]
    assert np.isnan(rows).sum() == 2


def test_means_are_weighted():
    rows = np.array([[1.0, NAN], [4.0, 5.0], [NAN, NAN]], dtype=np.float32)
    filled = fill_gaps(StartingRows(rows, np.array([2.0, 1.0, 3.0])))
    assert filled.rows.tolist() == [[1.0, 5.0], [4.0, 5.0], [2.0, 5.0]]
    assert filled.rows.dtype == np.float32


def test_complete_rows_are_not_copied():
    data = StartingRows(np.ones((3, 2)))
    assert fill_gaps(data) is data


@pytest.mark.parametrize(
    ("rows", "weights", "message"),
    [
        ([[1.0, NAN], [2.0, NAN]], None, "Column 1 has no value in any of 2 samples"),
        ([[1.0, NAN], [2.0, 3.0]], [1.0, 0.0], "Column 1 has no value"),
        ([[NAN, NAN], [NAN, NAN]], None, r"Columns \[0, 1\] have no value"),
    ],
)
def test_a_column_without_values_is_named(rows, weights, message):
    weights = None if weights is None else np.array(weights)
    with pytest.raises(ValueError, match=message):
        fill_gaps(StartingRows(np.array(rows), weights))


def test_a_column_without_values_among_drawn_rows_may_have_some_elsewhere():
    rows = np.array([[1.0, NAN], [2.0, NAN]])
    with pytest.raises(ValueError, match="2 samples that were drawn for the initialization"):
        fill_gaps(StartingRows(rows), are_all=False)


def test_rows_without_any_value_do_not_count():
    rows = np.array([[1.0, NAN], [4.0, 5.0], [NAN, NAN]])
    assert fill_gaps(StartingRows(rows)).weights.tolist() == [1.0, 1.0, 0.0]
    weighted = fill_gaps(StartingRows(rows, np.array([2.0, 1.0, 3.0])))
    assert weighted.weights.tolist() == [2.0, 1.0, 0.0]
