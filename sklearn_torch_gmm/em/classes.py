"""A start from rows whose class is known, where each class has components of its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sklearn_torch_gmm.em.kmeans import kmeans
from sklearn_torch_gmm.rows.source import StartingRows


def components_of_labelled(
    data: StartingRows, classes: npt.NDArray[np.int64], random_state: np.random.RandomState
) -> npt.NDArray[np.int64]:
    """Components ``[M]`` of the rows, −1 for rows without a label.

    Components have ``classes [K]``. K-means divides the rows of a class among its components.

    Raises
    ------
    ValueError
        If a class has fewer rows than components.
    """
    assert data.labels is not None
    found = np.full(len(data.labels), -1)
    for number in np.unique(classes):
        own, components = np.flatnonzero(data.labels == number), np.flatnonzero(classes == number)
        if len(own) < len(components):
            msg = (
                f"The start is taken from {len(own)} samples of class number {number}, which has "
                f"{len(components)} components."
            )
            raise ValueError(msg)
        if len(components) == 1:
            found[own] = components[0]
            continue
        weights = None if data.weights is None else data.weights[own]
        clusters = kmeans(StartingRows(data.rows[own], weights), len(components), random_state)
        found[own] = components[clusters.labels]
    return found
