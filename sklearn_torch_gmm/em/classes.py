"""Initialization from rows whose class is known, where each class has its own components."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sklearn_torch_gmm.em.kmeans import kmeans
from sklearn_torch_gmm.rows.source import StartingRows


def components_of_labelled(
    data: StartingRows, classes: npt.NDArray[np.int64], random_state: np.random.RandomState
) -> npt.NDArray[np.int64]:
    """Return the components ``[M]`` of the rows, −1 for rows without a label.

    Components have ``classes [K]``. K-means divides the rows of a class among its components.

    Raises
    ------
    ValueError
        If a class has fewer distinct rows than components.
    """
    assert data.labels is not None
    found = np.full(len(data.labels), -1)
    for number in np.unique(classes):
        own, components = np.flatnonzero(data.labels == number), np.flatnonzero(classes == number)
        if not _has_distinct(data.rows[own], len(components)):
            msg = (
                f"The initialization needs {len(components)} distinct labelled samples of each "
                f"class, one for each of its components, but class number {number} has fewer."
            )
            raise ValueError(msg)
        if len(components) == 1:
            found[own] = components[0]
            continue
        weights = None if data.weights is None else data.weights[own]
        clusters = kmeans(StartingRows(data.rows[own], weights), len(components), random_state)
        found[own] = components[clusters.labels]
    return found


def _has_distinct(rows: npt.NDArray[Any], number: int) -> bool:
    """Whether at least this number of rows differ from each other."""
    left = rows
    for _ in range(number):
        if len(left) == 0:
            return False
        left = left[(left != left[0]).any(axis=1)]
    return True
