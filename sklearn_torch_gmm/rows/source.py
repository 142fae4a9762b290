"""The interface between the data and the EM loop.

The loop sees batches from any source: tuples of ``rows [n, D]``, ``(rows, weights [n])`` or
``(rows, weights, labels [n])``. Each row is in exactly one batch, and sums over batches are exact.
The user need not choose the size of a batch, since it does not change the result; each source has
an efficient default.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sklearn_torch_gmm.rows.random_numbers import RandomNumbers
from sklearn_torch_gmm.rows.reservoir import Reservoir

Batch = tuple[Tensor, ...]

CPU = torch.device("cpu")

SAMPLE_ROWS = 100_000
"""Number of rows in the sample from which a large data set is initialized.

Twice as many double the time of the initialization and its memory.
"""

_KEYS_AT_ONCE = 2**17
"""Number of rows whose random keys are drawn together: 1 MiB, which stays in the cache."""

BATCH_BYTES = 2**25
"""Default size of a batch: large enough to hide the overhead per batch.

The few batches in memory at a time are small compared with the libraries; twice the size would
double their memory.
"""


@dataclass(frozen=True)
class Shard:
    """The share of the rows that one of several processes reads."""

    index: int
    count: int

    def rows(self, num_rows: int) -> range:
        """Return the indices of the rows in the shard; each row is in exactly one shard."""
        return range(num_rows * self.index // self.count, num_rows * (self.index + 1) // self.count)


WHOLE = Shard(0, 1)


class StartingRows(NamedTuple):
    """Rows in host memory from which the mixture is initialized."""

    rows: npt.NDArray[Any]
    """``[M, D]``"""

    weights: npt.NDArray[np.float64] | None = None
    """``[M]``, or None if all weights are equal."""

    labels: npt.NDArray[np.int64] | None = None
    """Classes ``[M]`` from 0 on, −1 where unknown, or None if rows have no labels."""


class Batches(ABC):
    """The rows of a shard, in the same order in each iteration.

    There is at least one batch, which may be empty, since every process takes part in every epoch.
    """

    resident_rows: int | None = None
    """Number of rows, if they are in memory and in the same batches each time; otherwise None."""

    @abstractmethod
    def __iter__(self) -> Iterator[Batch]: ...

    def finite(self, *, allow_missing: bool = False) -> Iterator[Batch]:
        """Iterate over the batches; ValueError is raised at the first row with NaN or infinity.

        With ``allow_missing``, NaN stands for a value that was not observed, and only infinity is
        an error.
        """
        kind = "infinity" if allow_missing else "NaN or infinity"
        before = 0
        for index, (rows, *others) in enumerate(self):
            # Rows are checked one by one only if their sum is not finite, which saves a pass.
            if not rows.sum(dtype=torch.float64).isfinite():
                is_wrong = rows.isinf() if allow_missing else ~rows.isfinite()
                wrong = is_wrong.any(1).nonzero()
                if len(wrong) > 0:
                    row = int(wrong[0])
                    msg = (
                        f"Input X contains {kind}: sample {row} of batch {index}, which is "
                        f"sample {before + row} in total."
                    )
                    if rows[row].isnan().any() and not allow_missing:
                        msg += " If NaN marks missing values, a mixture with missing='em' takes it."
                    raise ValueError(msg)
            before += rows.shape[0]
            yield (rows, *others)

    def nonfinite_error(self, *, allow_missing: bool = False) -> ValueError | None:
        """Return the error of :meth:`finite`, or None if all rows are usable."""
        try:
            for _ in self.finite(allow_missing=allow_missing):
                pass
        except ValueError as error:
            return error
        return None

    def close(self) -> None:  # noqa: B027
        """End the processes that read ahead, if any."""

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


class RowSource(ABC):
    """Rows of D features that can be read in each iteration."""

    num_rows: int | None
    """N, or None before all rows of a stream have been read."""

    total_weight: float | None = None
    """Σ w in the user's unit, once known; None if the rows have no weights."""

    num_features: int

    allow_missing: bool = False
    """Whether NaN marks a value that was not observed."""

    tensor_device: torch.device | None = None
    """The device of the tensors in which rows are read; None for other data."""

    @property
    def is_in_memory(self) -> bool:
        """Whether all rows are in host memory."""
        return False

    @property
    def has_order(self) -> bool:
        """Whether each pass reads the rows in the same order, as far as that is known."""
        return True

    @property
    def rows_a_pass(self) -> int | None:
        """The number of rows to expect from each pass, or None if it cannot differ."""
        return None

    def check_shared(self) -> None:  # noqa: B027
        """Raise a ValueError if several processes cannot share the rows, before reading any."""

    def release(self) -> None:  # noqa: B027
        """Free the memory that passes over the rows have allocated."""

    def __enter__(self) -> RowSource:
        return self

    def __exit__(self, *args: object) -> None:
        self.release()

    @abstractmethod
    def batches(
        self,
        batch_size: int | None,
        num_workers: int = 0,
        shard: Shard = WHOLE,
        device: torch.device = CPU,
    ) -> Batches:
        """Return the batches of the shard's rows.

        The source chooses the ``batch_size`` if it is None, and can use up to ``num_workers``
        processes. Batches may, but need not, already be on the ``device`` that needs them.
        """

    @abstractmethod
    def starting_rows(
        self,
        num_components: int,
        random: RandomNumbers,
        *,
        always_samples: bool = False,
    ) -> StartingRows:
        """Return all rows if they are few or in host memory, otherwise a random sample.

        With ``always_samples``, many rows in host memory are sampled too. The sample is the same
        for the same rows in the same order, whatever their source.
        """

    def _rows_per_batch(self, batch_size: int | None) -> int:
        """Return the given size, or the default for rows of float64."""
        return batch_size or default_batch_size(8 * self.num_features)


def default_batch_size(row_bytes: int) -> int:
    """Return the default number of rows of this size in a batch."""
    return max(1, BATCH_BYTES // max(1, row_bytes))


def sample_size(num_components: int) -> int:
    """Return the number of rows from which a large data set is initialized."""
    return max(SAMPLE_ROWS, 256 * num_components)


def sample_indices(
    num_rows: int, num_components: int, random: RandomNumbers
) -> npt.NDArray[np.int64] | None:
    """Return sorted indices of a random sample, or None if it would contain all rows.

    It is the same sample as from a stream of these rows. A random number for each row takes 6 ns,
    less than reading the row.
    """
    size = sample_size(num_components)
    if num_rows <= size:
        return None
    reservoir = Reservoir(size, random.state)
    for start in range(0, num_rows, _KEYS_AT_ONCE):
        reservoir.add(np.arange(start, min(start + _KEYS_AT_ONCE, num_rows)))
    return reservoir.rows()
