"""The middle of the data, and data far from the origin, such as times in seconds since 1970.

A squared distance that is expanded into squares loses much of its precision there. Differences
between rows lose none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

KEEPS_HALF = float(np.finfo(np.float64).eps) ** -0.25
"""Distance from the origin over the range of the data, 8192, up to which squares keep half of their
precision. Data below it are left unchanged, so that results are exactly scikit-learn's."""

FAR_FOR_SINGLE_ROWS = 2.0**20
"""The ratio from which on scikit-learn's variance of a single row, 10 eps times its square, is more
than 1/400 of the squared range. At twice the ratio it is 1/100, which changes fits noticeably."""

EVENLY_SPACED_ROWS = 10_000
"""Maximum number of rows that are looked at to find the middle of the data.

With twice as many, it would be no closer to the middle than it needs to be.
"""


def evenly_spaced(rows: Tensor) -> Tensor:
    """Return at most :data:`EVENLY_SPACED_ROWS` of ``rows [N, D]``, evenly spaced, in float64."""
    return rows[:: max(1, -(-rows.shape[0] // EVENLY_SPACED_ROWS))].double()


def weighted_mean(parts: Iterable[tuple[Tensor, Tensor]]) -> Tensor | None:
    """Return the mean ``[D]`` of rows ``[n, D]`` with weights ``[n]``, in float64; None if of none.

    It needs all rows: any number of them may be far away, and weigh nothing.
    """
    total, sums = 0.0, None
    for rows, weights in parts:
        weights = weights.double()
        own = weights @ rows.double()
        sums = own if sums is None else sums + own
        total += weights.sum().item()
    return None if sums is None else sums / total


def origin_of(rows: npt.NDArray[Any], ratio: float) -> npt.NDArray[Any]:
    """Return the point ``[D]`` to subtract from ``rows [N, D]``: zero, or a row if they are far.

    They are far if their distance from the origin is more than ``ratio`` times their range.
    The subtraction is then exact except for outliers.
    """
    low, high = rows.min(0).astype(np.float64), rows.max(0).astype(np.float64)
    distances = np.where(low > 0, low, np.where(high < 0, -high, 0.0))
    # Divided to keep squares from overflowing.
    scale = max(distances.max(), (high / 2 - low / 2).max()) or 1.0
    extent = np.linalg.norm(high / scale - low / scale)
    is_far = np.linalg.norm(distances / scale) > ratio * extent
    return rows[0].copy() if is_far else np.zeros_like(rows[0])
