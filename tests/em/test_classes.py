"""The start from rows whose class is known."""

import numpy as np
import pytest
from sklearn.cluster import KMeans

from sklearn_torch_gmm.em.classes import components_of_labelled
from sklearn_torch_gmm.rows.source import StartingRows

CLASSES = np.array([0, 0, 1, 2, 2, 2])


@pytest.mark.parametrize("weighted", [False, True])
def test_k_means_divides_each_class_by_itself(weighted):
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(90, 2)), rng.integers(-1, 3, size=90)
    weights = rng.uniform(size=90) if weighted else None
    random_state = np.random.RandomState(0)
    found = components_of_labelled(StartingRows(rows, weights, labels), CLASSES, random_state)
    expected, random_state = np.full(90, -1), np.random.RandomState(0)
    for number, first, size in ((0, 0, 2), (1, 2, 1), (2, 3, 3)):
        own = labels == number
        expected[own] = first
        if size > 1:
            model = KMeans(size, n_init=1, random_state=random_state)
            own_weights = None if weights is None else weights[own]
            expected[own] += model.fit(rows[own], sample_weight=own_weights).labels_
    np.testing.assert_array_equal(found, expected)
    assert set(found) == {-1, *range(6)}


def test_a_class_with_fewer_rows_than_components():
    rows, labels = np.eye(5), np.array([0, 0, 1, 2, 2])
    with pytest.raises(ValueError, match=r"3 distinct labelled samples .* number 2 has fewer"):
        components_of_labelled(StartingRows(rows, None, labels), CLASSES, np.random.RandomState(0))
