"""Rows of arrays and tensors: in memory, in a mapped file, or on a GPU."""

from __future__ import annotations

import logging
import math
import mmap
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sklearn_torch_gmm.rows.read_ahead import ReadAhead
from sklearn_torch_gmm.rows.source import (
    CPU,
    WHOLE,
    Batch,
    Batches,
    RowSource,
    Shard,
    StartingRows,
    default_batch_size,
    sample_indices,
)
from sklearn_torch_gmm.rows.tensors import as_tensor

MAPPED_BYTES = 2**28
"""Mapped files up to this size are treated as memory: a start is taken from all of their rows."""

_PAGE_BYTES = 4096

_logger = logging.getLogger(__name__)


class ArrayRows(RowSource):
    """Rows of an array, a memory map or a tensor.

    Parameters
    ----------
    rows : ndarray or Tensor [N, D]
    weights : ndarray [N], optional
    """

    num_rows: int

    def __init__(
        self,
        rows: npt.NDArray[Any] | Tensor,
        weights: npt.NDArray[np.float64] | None = None,
    ) -> None:
        self.file = None if isinstance(rows, Tensor) else MappedFile.behind(rows)
        self.rows = rows if isinstance(rows, Tensor) else as_tensor(rows)
        self.weights = weights
        self.num_rows, self.num_features = self.rows.shape

    @property
    def is_in_memory(self) -> bool:
        return self.file is None and self.rows.device.type == "cpu"

    def batches(
        self,
        batch_size: int | None,
        num_workers: int = 0,
        shard: Shard = WHOLE,
        device: torch.device = CPU,
    ) -> Batches:
        place = slice(*shard.bounds(self.num_rows))
        tensors = [self.rows[place]]
        if self.weights is not None:
            tensors.append(as_tensor(self.weights)[place])
        if device.type == "cuda" and self.rows.device.type == "cpu":
            num_rows, row_bytes = tensors[0].shape[0], self.num_features * self.rows.itemsize
            size = rows_a_batch(num_rows, row_bytes, _free_bytes(device))
            if size is None:
                return SlicedBatches(*(t.to(device) for t in tensors), batch_size=batch_size)
            if batch_size is None:
                _logger.info(
                    "%d rows take more than half of the device's free memory: they are sent in "
                    "batches of %d.",
                    num_rows,
                    size,
                )
            return SlicedBatches(
                *tensors, batch_size=batch_size or size, prepare=_pin, reads_ahead=True
            )
        if self.file is not None:
            size = batch_size or default_batch_size(self.num_features * self.rows.itemsize)
            return SlicedBatches(*tensors, batch_size=size, prepare=_touch, reads_ahead=True)
        return SlicedBatches(*tensors, batch_size=batch_size)

    def starting_rows(
        self, num_components: int, random_state: np.random.RandomState
    ) -> StartingRows:
        rows, weights = self.rows, self.weights
        is_large_file = self.file is not None and rows.nbytes > MAPPED_BYTES
        if rows.device.type != "cpu" or is_large_file:
            chosen = sample_indices(self.num_rows, num_components, random_state)
            if chosen is not None:
                rows = rows[torch.as_tensor(chosen, device=rows.device)]
                weights = None if weights is None else weights[chosen]
        return StartingRows(rows.detach().cpu().numpy(), weights)

    def __getstate__(self) -> dict[str, Any]:
        """Send another process the name of a mapped file, not what it holds."""
        state = dict(self.__dict__)
        if self.file is not None:
            del state["rows"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.file is not None:
            self.rows = as_tensor(self.file.open())


class SlicedBatches(Batches):
    """Views of consecutive rows; unlike a ``DataLoader``, nothing is copied.

    Parameters
    ----------
    rows : Tensor [N, D]
    *others : Tensor [N]
        What belongs to the rows.
    batch_size : int or None
        None: all rows are one batch.
    prepare : callable, default=None
        Is given each tensor of a batch before it is needed.
    reads_ahead : bool, default=False
        Whether a thread prepares the next batch meanwhile.
    """

    def __init__(
        self,
        rows: Tensor,
        *others: Tensor,
        batch_size: int | None,
        prepare: Any = None,
        reads_ahead: bool = False,
    ) -> None:
        self._tensors: tuple[Tensor, ...] = (rows, *others)
        self._num_rows = rows.shape[0]
        self._batch_size = batch_size or max(1, rows.shape[0])
        self._prepare = prepare
        self._reads_ahead = reads_ahead
        if not reads_ahead:
            self.resident_rows = self._num_rows

    def __len__(self) -> int:
        return max(1, math.ceil(self._num_rows / self._batch_size))

    def __iter__(self) -> Iterator[Batch]:
        if self._reads_ahead:
            return iter(ReadAhead(self._batch, len(self)))
        return map(self._batch, range(len(self)))

    def close(self) -> None:
        # The rows may be a copy on a device.
        self._tensors = ()

    def _batch(self, index: int) -> Batch:
        start = index * self._batch_size
        batch = tuple(t[start : start + self._batch_size] for t in self._tensors)
        return batch if self._prepare is None else tuple(map(self._prepare, batch))


class MappedFile(NamedTuple):
    """Where a mapped array is on disk."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @classmethod
    def behind(cls, array: npt.NDArray[Any]) -> MappedFile | None:
        """Return the file that a C-contiguous array is mapped from, None for other arrays."""
        owner: Any = array
        while isinstance(owner, np.ndarray) and not isinstance(owner.base, mmap.mmap):
            owner = owner.base
        name = getattr(owner, "filename", None)
        # What is written to a copy on write is not in the file.
        is_private = getattr(owner, "mode", None) == "c"
        if name is None or is_private or not array.flags.c_contiguous:
            return None
        offset = owner.offset + array.ctypes.data - owner.ctypes.data
        return cls(str(name), array.dtype.str, array.shape, offset)

    def open(self) -> npt.NDArray[Any]:
        """Map the file again."""
        return np.memmap(self.name, self.dtype, "r", self.offset, self.shape)


def rows_a_batch(num_rows: int, row_bytes: int, free_bytes: int) -> int | None:
    """How many rows to send to a device at once; None where it has room for all of them.

    All of them may take half of the free memory. Of smaller batches there are up to three at a
    time: one is worked on, one is under way, one is given back.
    """
    if num_rows * row_bytes <= free_bytes // 2:
        return None
    return max(1, min(8 * default_batch_size(row_bytes), free_bytes // 8 // row_bytes))


def _free_bytes(device: torch.device) -> int:
    return int(torch.cuda.mem_get_info(device)[0])


def _pin(tensor: Tensor) -> Tensor:
    """Copy to where a GPU can read it by itself."""
    return tensor.pin_memory()


def _touch(tensor: Tensor) -> Tensor:
    """Have the pages of a mapped file read."""
    if tensor.is_contiguous():
        tensor.view(-1)[:: max(1, _PAGE_BYTES // tensor.itemsize)].sum()
    return tensor
