"""Memory that is taken once and used for every chunk of every iteration."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK_BYTES = 16 * 2**20
"""Working memory of a chunk of rows: small enough for a processor's cache, large enough that the
cost of calling an operation does not show."""

ACCELERATOR_CHUNK_BYTES = 256 * 2**20
"""The same where calls are dear and memory is wide."""


LEAST_ROWS = 64
"""Rows of a chunk, whatever they take: products with fewer are slow."""

WIDE_BYTES = 256 * 2**20
"""What the moments of the fewest rows may take. Beyond, differences to the means take less memory,
and, since products then wait for it, less time."""


TRANSPOSED_BYTES = 2**19
"""How much is transposed at once on a processor: what its nearer cache holds."""


BY_FEATURE_BYTES = 2**25
"""Size up to which rows are copied once, to lie as every pass wants them."""


def by_feature(rows: Tensor) -> Tensor:
    """Return ``rows [N, D]`` with each feature in one piece of memory, if they are few.

    Transposing rows takes a fifth of a pass where covariances are not full. Whatever N is, the copy
    takes no more than :data:`BY_FEATURE_BYTES`.
    """
    return rows.T.contiguous().T if rows.nbytes <= BY_FEATURE_BYTES else rows


def subtract_transposed(rows: Tensor, shift: Tensor, out: Tensor) -> None:
    """Write ``rows [n, D]`` minus ``shift [D, 1]`` into ``out [D, n]``, in the type of ``out``.

    Centring, transposing and casting are one operation: many rows are never copied whole.
    """
    num_rows, num_features = rows.shape
    size = num_rows
    is_by_feature = rows.stride(0) == 1
    if out.device.type == "cpu" and not is_by_feature:
        size = max(LEAST_ROWS, TRANSPOSED_BYTES // (out.itemsize * num_features))
    if num_rows <= size:
        torch.sub(rows.T, shift, out=out)
        return
    for start in range(0, num_rows, size):
        part = slice(start, start + size)
        torch.sub(rows[part].T, shift, out=out[:, part])


def is_wide(values_per_row: int) -> bool:
    """Whether rows become so many numbers that a chunk of them had better not be written out."""
    return 8 * LEAST_ROWS * values_per_row > WIDE_BYTES


class Workspace:
    """Named scratch tensors that grow as needed, and stay until they are released.

    Parameters
    ----------
    dtype : torch.dtype
    device : torch.device
    chunk_bytes : int, optional
        Working memory of a chunk.
    """

    def __init__(
        self, dtype: torch.dtype, device: torch.device, chunk_bytes: int | None = None
    ) -> None:
        if chunk_bytes is None:
            chunk_bytes = CHUNK_BYTES if device.type == "cpu" else ACCELERATOR_CHUNK_BYTES
        self.dtype = dtype
        self.device = device
        self.chunk_bytes = chunk_bytes
        self._buffers: dict[str, Tensor] = {}

    def rows_per_chunk(self, values_per_row: int) -> int:
        """How many rows fit into a chunk, with so many values kept for each."""
        return max(LEAST_ROWS, self.chunk_bytes // (self.dtype.itemsize * values_per_row))

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

    def release(self) -> None:
        """Give the memory back, whoever still knows this object."""
        self._buffers.clear()
