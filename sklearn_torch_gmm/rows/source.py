"""Where rows come from, and how they reach the loop.

Whatever the source, the loop sees batches: tuples of ``rows [n, D]`` or ``(rows, weights [n])``.
No batch repeats or drops a row; sums over batches are exact. The size of a batch is thus free
wherever the user has no wish, and each source chooses one that reads well.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils.random import sample_without_replacement
from torch import Tensor

Batch = tuple[Tensor, ...]

CPU = torch.device("cpu")

SAMPLE_ROWS = 100_000
"""Rows that a start is taken from where not all of them are in the host's memory."""

BATCH_BYTES = 2**25
"""Size of a batch that nobody has asked for: large enough that the cost of a batch does not show,
small enough that a few of them are nothing beside the libraries."""


@dataclass(frozen=True)
class Shard:
    """The rows that one of several processes reads."""

    index: int
    count: int

    def bounds(self, num_rows: int) -> tuple[int, int]:
        """First row of the shard, and of the next: each row belongs to one of them."""
        first, behind = (num_rows * (self.index + i) // self.count for i in (0, 1))
        return first, behind


WHOLE = Shard(0, 1)


class StartingRows(NamedTuple):
    """Rows in host memory that a start is taken from."""

    rows: npt.NDArray[Any]
    """``[M, D]``"""

    weights: npt.NDArray[np.float64] | None = None
    """``[M]``, or None where all rows weigh the same."""


class Batches(ABC):
    """The rows of a shard, in order, each time it is iterated.

    It yields at least one batch, which may be empty: every process takes part in every epoch.
    """

    resident_rows: int | None = None
    """How many rows there are, if they are in memory, and in the same batches each time."""

    @abstractmethod
    def __iter__(self) -> Iterator[Batch]: ...

    def finite(self) -> Iterator[Batch]:
        """Batches that are looked at first.

        Raises
        ------
        ValueError
            If a row holds NaN or infinity.
        """
        before = 0
        for index, (rows, *others) in enumerate(self):
            # A sum is not finite if one of its terms is not; only then is it worth a look at each.
            if not rows.sum(dtype=torch.float64).isfinite():
                wrong = (~rows.isfinite().all(1)).nonzero()
                if len(wrong) > 0:
                    row = int(wrong[0])
                    msg = (
                        f"Input X contains NaN or infinity: row {row} of batch {index}, which is "
                        f"row {before + row} of those read."
                    )
                    raise ValueError(msg)
            before += rows.shape[0]
            yield (rows, *others)

    def nonfinite_error(self) -> ValueError | None:
        """The error of the first row that holds NaN or infinity, None if no row does."""
        try:
            for _ in self.finite():
                pass
        except ValueError as error:
            return error
        return None

    def close(self) -> None:  # noqa: B027
        """End the processes that read ahead, where there are any."""

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


class RowSource(ABC):
    """Rows of D features that can be read once an iteration."""

    num_rows: int | None
    """N, or None where only reading all of them tells."""

    total_weight: float | None = None
    """Σ w, where the rows come with weights of their own and have been read."""

    num_features: int

    @property
    def is_in_memory(self) -> bool:
        """Whether all rows are in the memory that this processor works on."""
        return False

    @property
    def rows_a_pass(self) -> int | None:
        """How many rows each pass must give, where that is not certain."""
        return None

    def check_shared(self) -> None:  # noqa: B027
        """Raise ValueError if several processes cannot share the rows, before any are read."""

    @abstractmethod
    def batches(
        self,
        batch_size: int | None,
        num_workers: int = 0,
        shard: Shard = WHOLE,
        device: torch.device = CPU,
    ) -> Batches:
        """Batches of the shard's rows.

        Parameters
        ----------
        batch_size : int or None
            None: the source chooses.
        num_workers : int
            Processes that read ahead, where the source can use them.
        shard : Shard
        device : torch.device
            Where the rows will be needed. Batches may, but need not, be there already.
        """

    @abstractmethod
    def starting_rows(
        self, num_components: int, random_state: np.random.RandomState
    ) -> StartingRows:
        """All rows where they are few or in host memory, a random sample of them elsewhere."""


def default_batch_size(row_bytes: int) -> int:
    """How many rows of that size make a batch."""
    return max(1, BATCH_BYTES // max(1, row_bytes))


def sample_size(num_components: int) -> int:
    """How many rows a start is taken from."""
    return max(SAMPLE_ROWS, 256 * num_components)


def sample_indices(
    num_rows: int, num_components: int, random_state: np.random.RandomState
) -> npt.NDArray[np.int64] | None:
    """Sorted indices of a random sample, or None where it would be all rows."""
    size = sample_size(num_components)
    if num_rows <= size:
        return None
    # Unlike `choice`, it takes no memory for the rows that it leaves out.
    chosen = sample_without_replacement(num_rows, size, random_state=random_state)
    return np.sort(chosen).astype(np.int64)
