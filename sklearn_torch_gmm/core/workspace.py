"""Memory that is taken once and used for every chunk of every iteration."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import torch
from torch import Tensor

from sklearn_torch_gmm.core import processor

ACCELERATOR_CHUNK_BYTES = 256 * 2**20
"""Working memory of a chunk of rows where calls are dear and memory is wide."""


LEAST_ROWS = 64
"""Rows of a chunk, whatever they take: products with fewer are slow."""

WIDE_BYTES = 256 * 2**20
"""What the moments of the fewest rows may take. Beyond, differences to the means take less memory,
and, since products then wait for it, less time."""

WIDE_RATIO = 12
"""Moments of a row for each number in its differences to all means, from which on an iteration with
differences takes less time: few components do little with what took long to write out."""

TRANSPOSED_BYTES = 2**19
"""How much is transposed at once on a processor: what its nearer cache holds."""


KEPT_BYTES = 50 * 2**20
"""Memory for what comes again in each iteration: the moments T(x) of few rows, or the rows
themselves in the order that every pass wants. A search has a T(x) for each covariance type."""

KEPT_FOR_ONE_PURPOSE = 2**25
"""Memory for one of them, and all that the fit of one mixture keeps: with the other working memory
of a chunk that stays below 64 MB. More is read in no less time than moments are found again."""


def subtract_transposed(rows: Tensor, shift: Tensor, out: Tensor) -> None:
    """Write ``rows [..., n, D]`` minus ``shift [D, 1]`` into ``out [..., D, n]``, in its type.

    Centring, transposing and casting are one operation: many rows are never copied whole.
    """
    num_rows, num_features = rows.shape[-2:]
    size = num_rows
    is_by_feature = rows.stride(-2) == 1
    if out.device.type == "cpu" and not is_by_feature:
        size = max(LEAST_ROWS, TRANSPOSED_BYTES // (out.itemsize * num_features))
    if num_rows <= size:
        torch.sub(rows.mT, shift, out=out)
        return
    for start in range(0, num_rows, size):
        part = slice(start, start + size)
        torch.sub(rows[..., part, :].mT, shift, out=out[..., part])


def is_wide(num_moments: int, num_differences: int, *, ratio: float = WIDE_RATIO) -> bool:
    """Whether the moments of rows had better not be written out.

    Parameters
    ----------
    num_moments : int
        P, how many numbers T(x) is.
    num_differences : int
        R K D, how many numbers the differences of a row to all means are.
    ratio : float
        Of the two, from which on differences take less time.
    """
    takes_much_memory = 8 * LEAST_ROWS * num_moments > WIDE_BYTES
    return takes_much_memory or num_moments > ratio * num_differences


def in_lanes(
    num_rows: int, size: int, num_lanes: int, fewest: float = 0
) -> Iterator[tuple[slice, int]]:
    """Places of consecutive rows, and how many lanes share each of them evenly.

    Parameters
    ----------
    num_rows : int
    size : int
        Rows of a chunk.
    num_lanes : int
        T, into how many a chunk is divided at most.
    fewest : float
        A chunk of fewer rows is not divided.
    """
    start = 0
    while start < num_rows:
        rows = min(size, num_rows - start)
        lanes = 1 if rows < fewest else max(1, min(num_lanes, rows // LEAST_ROWS))
        # What is left over in the end is a chunk of its own.
        rows -= rows % lanes
        yield slice(start, start + rows), lanes
        start += rows


class Workspace:
    """Named scratch tensors that grow as needed, and stay until they are released.

    Parameters
    ----------
    dtype : torch.dtype
    device : torch.device
    chunk_bytes : int, optional
        Working memory of a chunk.
    num_lanes : int, optional
        T, how many parts of a chunk are worked on at once: those of torch's threads on a processor.
    """

    def __init__(
        self,
        dtype: torch.dtype,
        device: torch.device,
        chunk_bytes: int | None = None,
        num_lanes: int | None = None,
    ) -> None:
        is_processor = device.type == "cpu"
        if chunk_bytes is None:
            chunk_bytes = processor.chunk_bytes() if is_processor else ACCELERATOR_CHUNK_BYTES
        if num_lanes is None:
            num_lanes = torch.get_num_threads() if is_processor else 1
        self.dtype = dtype
        self.device = device
        self.chunk_bytes = chunk_bytes
        self.num_lanes = num_lanes
        self.sums_by_component = is_processor and processor.sums_by_component()
        self._buffers: dict[str, Tensor] = {}
        self._kept: dict[Hashable, Tensor] = {}
        self._promised: dict[Hashable, int] = {}

    def rows_per_chunk(self, values_per_row: int, *, least: int = LEAST_ROWS) -> int:
        """How many rows fit into a chunk, with so many values kept for each, or else the least."""
        return max(least, self.chunk_bytes // (self.dtype.itemsize * values_per_row))

    def fits(self, num_values: int) -> bool:
        """Whether so many values take no more memory than a chunk."""
        return num_values * self.dtype.itemsize <= self.chunk_bytes

    def has_room(self, purpose: Hashable, num_bytes: int) -> bool:
        """Whether so much may be kept for a purpose, beside what has been promised to others."""
        if purpose not in self._promised:
            room = min(KEPT_FOR_ONE_PURPOSE, KEPT_BYTES - sum(self._promised.values()))
            fits = num_bytes <= room
            self._promised[purpose] = num_bytes if fits else 0
        return self._promised[purpose] > 0

    def keep(self, name: Hashable, *shape: int) -> tuple[Tensor, bool]:
        """The tensor that is kept under a name, and whether it has been asked for before."""
        is_known = name in self._kept
        if not is_known:
            self._kept[name] = torch.empty(shape, dtype=self.dtype, device=self.device)
        return self._kept[name], is_known

    def by_feature(self, number: int, rows: Tensor, num_rows: int) -> Tensor:
        """Return ``rows [N, D]`` with each feature in one piece of memory, if they are few.

        Parameters
        ----------
        number : int
            Which part of all rows they are.
        rows : Tensor [N, D]
        num_rows : int
            How many rows there are in all.
        """
        if self.device.type != "cpu" or rows.stride(0) == 1:
            return rows
        if not self.has_room("rows", num_rows * rows.shape[1] * rows.itemsize):
            return rows
        name = "rows", number
        if name not in self._kept:
            self._kept[name] = rows.T.contiguous().T
        return self._kept[name]

    def take(self, name: str, *shape: int) -> Tensor:
        """The scratch tensor of that name in this shape; what it holds is left from earlier use."""
        size = 1
        for extent in shape:
            size *= extent
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size:
            buffer = torch.empty(size, dtype=self.dtype, device=self.device)
            self._buffers[name] = buffer
        return buffer[:size].view(shape)

    def fast_length(self, length: int, num_components: int) -> int:
        """How many moments :meth:`add_product` adds fastest: ``length`` or a few more."""
        if not self.sums_by_component or self.dtype != torch.float64:
            return length
        return processor.fast_length(length, num_components)

    def new_sums(self, num_components: int, length: int) -> Tensor:
        """Zeros ``[K, 1 + P]``, which lie in memory as :meth:`add_product` fills them fastest."""
        if self.sums_by_component:
            return torch.zeros(num_components, length, dtype=self.dtype, device=self.device)
        return torch.zeros(length, num_components, dtype=self.dtype, device=self.device).T

    def take_sums(self, num_lanes: int, num_components: int, length: int) -> Tensor:
        """The same ``[T, K, 1 + P]`` in scratch memory, for each lane."""
        if self.sums_by_component:
            return self.take("sums", num_lanes, num_components, length).zero_()
        return self.take("sums", num_lanes, length, num_components).zero_().mT

    def add_product(self, sums: Tensor, responsibilities: Tensor, features: Tensor) -> None:
        """Add ``responsibilities [T, K, n]`` times ``features [T, 1 + P, n]`` to ``sums``."""
        if self.sums_by_component:
            sums.baddbmm_(responsibilities, features.mT)
        else:
            sums.mT.baddbmm_(features, responsibilities.mT)

    def release(self) -> None:
        """Give the memory back, whoever still knows this object."""
        self._buffers.clear()
        self._kept.clear()
        self._promised.clear()
