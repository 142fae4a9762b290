"""A random sample of rows, also from a stream of unknown length."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class Reservoir:
    """Keeps the ``size`` rows with the smallest random keys.

    The i-th row gets the i-th random number, so the sample depends only on the seed and the order
    of the rows, not on their batches. As long as all rows fit, no random numbers are drawn, so that
    the numbers drawn afterwards are the same as for data in memory.

    Source: Vitter, Random sampling with a reservoir, ACM TOMS 11 (1985). With a key for each row, a
    batch takes only a few array operations.

    Attributes
    ----------
    seen : int
        Number of rows so far.
    """

    def __init__(self, size: int, random_state: np.random.RandomState) -> None:
        self.seen = 0
        self._size = size
        self._random_state = random_state
        self._rows: list[npt.NDArray[Any]] = []
        self._weights: list[npt.NDArray[np.float64]] = []
        self._keys: list[npt.NDArray[np.float64]] = []
        self._kept = 0
        self._largest_key = np.inf

    def add(self, rows: npt.NDArray[Any], weights: npt.NDArray[np.float64] | None = None) -> None:
        """Add rows ``[n, D]`` to the population, and their weights ``[n]`` if they have any."""
        before, self.seen = self.seen, self.seen + len(rows)
        if self.seen > self._size:
            if before <= self._size:
                self._keys = [self._random_state.random_sample(before)]
            keys = self._random_state.random_sample(len(rows))
            chosen = keys < self._largest_key
            rows = rows[chosen]
            weights = None if weights is None else weights[chosen]
            self._keys.append(keys[chosen])
        # Copied, since a view would keep the whole batch in memory.
        self._rows.append(np.array(rows))
        if weights is not None:
            self._weights.append(np.array(weights))
        self._kept += len(rows)
        # At twice the size, the cost of dropping rows is spread over as many new ones.
        if self._kept > 2 * self._size:
            self._drop()

    def rows(self) -> npt.NDArray[Any]:
        """The sample ``[M, D]``, in the order of arrival."""
        self._drop()
        return np.concatenate(self._rows)

    def weights(self) -> npt.NDArray[np.float64]:
        """The weights ``[M]`` of the sample."""
        self._drop()
        return np.concatenate(self._weights)

    def _drop(self) -> None:
        if self._kept <= self._size:
            return
        keys = np.concatenate(self._keys)
        kept = np.sort(np.argpartition(keys, self._size - 1)[: self._size])
        self._keys = [keys[kept]]
        self._rows = [np.concatenate(self._rows)[kept]]
        if self._weights:
            self._weights = [np.concatenate(self._weights)[kept]]
        self._kept = self._size
        self._largest_key = keys[kept].max()
