"""Working memory that is allocated once and reused for every chunk of every iteration."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator

import torch
from torch import Tensor

from sklearn_torch_gmm.core import processor
from sklearn_torch_gmm.core.processes import expect_forks

ACCELERATOR_CHUNK_BYTES = 256 * 2**20
"""Working memory of a chunk of rows on accelerators, where calls are expensive and memory is fast.

Half as much means twice the calls; twice as much is taken from the memory for the data.
"""

TILE = 128
"""Rows and columns of a product that a multiprocessor of a GPU computes at once.

Lanes are multiples of it, so that none ends with a tile that is mostly empty.
"""

TILES_PER_MULTIPROCESSOR = 2
"""Number of tiles of the sums for each multiprocessor: one is loaded while another computes.

The sums are small and the rows many: one lane would keep few multiprocessors busy. An estimate.
"""

LEAST_ROWS = 64
"""Minimum number of rows of a chunk: matrix products with fewer are slow.

Twice as many need twice the memory where a single row takes more than its share of a chunk.
"""

WIDE_BYTES = 256 * 2**20
"""Memory limit for the moments of :data:`LEAST_ROWS` rows.

Beyond it, working with the residuals takes less memory, and also less time, since matrix products
then wait for memory.
"""

WIDE_RATIO = 12
"""Ratio of moments to residuals of a row from which on an iteration with residuals takes less time.

With few components, T(x) is used only a few times after the effort of writing it. With twice the
value, an iteration of [2k, 256] → 8, full, would take 75 instead of 62 ms (docs/speed.md).
"""

TRANSPOSED_BYTES = 2**19
"""Amount of data transposed at once on a CPU, which fits into the L2 cache of a core.

Transposing all rows at once makes an iteration 8 to 16 % slower, as would a value beyond the cache.
"""

KEPT_BYTES = 50 * 2**20
"""Memory for data needed in each iteration: the moments T(x) of few rows, or the rows by feature.

A search keeps a T(x) for each covariance type, as long as there is room.
"""

KEPT_FOR_ONE_PURPOSE = 2**25
"""Memory for one of these, and thus for the fit of one mixture.

Together with the other working memory of a chunk it stays below 64 MB. Reading more of it takes no
less time than computing the moments again.
"""


def subtract_transposed(rows: Tensor, shift: Tensor, out: Tensor) -> None:
    """Write ``rows [..., n, D]`` minus ``shift [D, 1]`` into ``out [..., D, n]``, in its dtype.

    Centring, transposing and casting in one operation avoids copies of the data.
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
    """Whether residuals are cheaper than moments.

    ``num_moments`` is 1 + P, the length of (1, T(x)); ``num_differences`` is R K D, the size of the
    residuals of one row. From their ``ratio`` on, residuals take less time.
    """
    takes_much_memory = 8 * LEAST_ROWS * num_moments > WIDE_BYTES
    return takes_much_memory or num_moments > ratio * num_differences


def in_lanes(
    num_rows: int, size: int, num_lanes: int, fewest: float = 0, multiple: int = 1
) -> Iterator[tuple[slice, int]]:
    """Slices of consecutive rows, and the number of lanes that share each of them evenly.

    A chunk of at most ``size`` rows has up to ``num_lanes`` lanes of a ``multiple`` of rows, but
    only one if it has fewer than ``fewest`` rows.
    """
    start, least = 0, max(LEAST_ROWS, multiple)
    while start < num_rows:
        rows = min(size, num_rows - start)
        lanes = 1 if rows < fewest else max(1, min(num_lanes, rows // least))
        # The remainder becomes a chunk of its own.
        rows -= rows % (lanes * multiple if rows >= lanes * multiple else lanes)
        yield slice(start, start + rows), lanes
        start += rows


class Workspace:
    """Named scratch tensors that grow as needed and stay allocated until they are released.

    ``num_lanes`` is the number T of parts of a chunk that are processed at once: by default one for
    each of torch's threads on a CPU, otherwise one for operations on rows.
    """

    def __init__(
        self,
        dtype: torch.dtype,
        device: torch.device,
        chunk_bytes: int | None = None,
        num_lanes: int | None = None,
    ) -> None:
        expect_forks()
        is_processor = device.type == "cpu"
        if chunk_bytes is None:
            chunk_bytes = processor.chunk_bytes() if is_processor else ACCELERATOR_CHUNK_BYTES
        if num_lanes is None:
            num_lanes = torch.get_num_threads() if is_processor else 1
        self.dtype = dtype
        self.device = device
        self.chunk_bytes = chunk_bytes
        self.num_lanes = num_lanes
        self.lane_multiple = TILE if device.type == "cuda" else 1
        self.sums_by_component = is_processor and processor.sums_by_component()
        self._buffers: dict[str, Tensor] = {}
        self._latest: dict[str, Tensor] = {}
        self._kept: dict[Hashable, Tensor] = {}
        self._promised: dict[Hashable, int] = {}

    def rows_per_chunk(self, values_per_row: int, *, least: int = LEAST_ROWS) -> int:
        """Number of rows that fit into a chunk, but not less than ``least``."""
        return max(least, self.chunk_bytes // (self.dtype.itemsize * values_per_row))

    def lanes_of_sums(self, num_components: int, length: int) -> int:
        """Number of lanes for which sums ``[K, 1 + P]`` keep all multiprocessors of a GPU busy."""
        if self.device.type != "cuda":
            return self.num_lanes
        processors = torch.cuda.get_device_properties(self.device).multi_processor_count
        tiles = math.ceil(num_components / TILE) * math.ceil(length / TILE)
        return math.ceil(TILES_PER_MULTIPROCESSOR * processors / tiles)

    def most_lanes(self, sums: Tensor, height: int) -> int:
        """Number of lanes for ``sums [..., 1 + P]``, with T(x) of this height."""
        lanes = self.lanes_of_sums(sums.shape[-2], height)
        # Otherwise separate sums for each lane would take more memory than the rows.
        return lanes if self.fits(2 * lanes * sums.numel()) else 1

    def fits(self, num_values: int) -> bool:
        """Whether this number of values takes at most the memory of a chunk."""
        return num_values * self.dtype.itemsize <= self.chunk_bytes

    def room_for(self, purpose: Hashable, *sizes: int) -> int:
        """The first of these numbers of bytes that may be kept for a purpose; zero if none may.

        The first answer for a purpose is final.
        """
        if purpose not in self._promised:
            room = min(KEPT_FOR_ONE_PURPOSE, KEPT_BYTES - sum(self._promised.values()))
            self._promised[purpose] = next((size for size in sizes if size <= room), 0)
        return self._promised[purpose]

    def keep(self, name: Hashable, *shape: int) -> tuple[Tensor, bool]:
        """The tensor kept under a name, and whether it existed before."""
        is_known = name in self._kept
        if not is_known:
            self._kept[name] = torch.empty(shape, dtype=self.dtype, device=self.device)
        return self._kept[name], is_known

    def by_feature(self, number: int, rows: Tensor, num_rows: int) -> Tensor:
        """Return ``rows [N, D]`` stored by feature, from a kept copy if memory permits.

        They are the batch ``number`` of all ``num_rows`` rows.
        """
        if self.device.type != "cpu" or rows.stride(0) == 1:
            return rows
        if not self.room_for("rows", num_rows * rows.shape[1] * rows.itemsize):
            return rows
        name = "rows", number
        if name not in self._kept:
            self._kept[name] = rows.T.contiguous().T
        return self._kept[name]

    def take(self, name: str, *shape: int) -> Tensor:
        """The scratch tensor of that name in this shape, uninitialized."""
        latest = self._latest.get(name)
        if latest is not None and latest.shape == shape:
            return latest
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size:
            buffer = torch.empty(size, dtype=self.dtype, device=self.device)
            self._buffers[name] = buffer
        self._latest[name] = buffer[:size].view(shape)
        return self._latest[name]

    def fast_length(self, length: int, num_components: int) -> int:
        """Number of moments, at least ``length``, for which :meth:`add_product` is fastest."""
        if not self.sums_by_component or self.dtype != torch.float64:
            return length
        return processor.fast_length(length, num_components)

    def new_sums(self, num_components: int, length: int) -> Tensor:
        """Zeros ``[K, 1 + P]`` in the memory layout that :meth:`add_product` fills fastest."""
        if self.sums_by_component:
            return torch.zeros(num_components, length, dtype=self.dtype, device=self.device)
        return torch.zeros(length, num_components, dtype=self.dtype, device=self.device).T

    def take_sums(self, num_lanes: int, num_components: int, length: int) -> Tensor:
        """The same ``[T, K, 1 + P]`` for each lane, in scratch memory."""
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
        """Free the memory, even while this object is still referenced."""
        self._buffers.clear()
        self._latest.clear()
        self._kept.clear()
        self._promised.clear()
