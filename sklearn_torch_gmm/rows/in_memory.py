"""Rows of arrays and tensors in memory, in a mapped file, or on a GPU."""

from __future__ import annotations

import logging
import math
import mmap
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sklearn_torch_gmm.core.device import sendable
from sklearn_torch_gmm.rows.random_numbers import RandomNumbers
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
"""Size up to which the initialization uses all of a mapped file, as if it were in memory.

Initialization reads the file once; twice the size would double the time and the memory for it.
"""

_PAGE_BYTES = 4096

_logger = logging.getLogger(__name__)


class ArrayRows(RowSource):
    """Rows ``[N, D]`` of an array, a memory map or a tensor, with optional weights ``[N]``.

    Optional ``labels [N]`` are the classes of the rows, from 0 on, or −1 if the class is unknown.
    """

    num_rows: int

    def __init__(
        self,
        rows: npt.NDArray[Any] | Tensor,
        weights: npt.NDArray[np.float64] | None = None,
        labels: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.file = None if isinstance(rows, Tensor) else MappedFile.behind(rows)
        self.rows = rows if isinstance(rows, Tensor) else as_tensor(rows)
        self.weights = weights
        self.labels = labels
        self.num_rows, self.num_features = self.rows.shape
        self._moved: tuple[Tensor, ...] = ()

    def rows_on(self, device: torch.device) -> Tensor:
        """Return the rows, from the device if a pass has moved all of them there."""
        return self._moved[0] if self._moved and self._moved[0].device == device else self.rows

    def release(self) -> None:
        self._moved = ()

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
        share = shard.rows(self.num_rows)
        tensors = [values[share.start : share.stop] for values in self._values()]
        # Apple's GPUs share the host's memory: all rows are sent only where they are one batch.
        is_apart = device.type == "cuda" or (device.type == "mps" and batch_size is None)
        if is_apart and self.rows.device.type == "cpu":
            if shard == WHOLE and self._moved and self._moved[0].device == device:
                return SlicedBatches(*self._moved, batch_size=batch_size)
            row_bytes = self.num_features * self.rows.itemsize
            size = rows_a_batch(len(share), row_bytes, _free_bytes(device))
            if size is None:
                moved = tuple(sendable(t, device).to(device) for t in tensors)
                if shard == WHOLE:
                    self._moved = moved
                return SlicedBatches(*moved, batch_size=batch_size)
            if batch_size is None:
                _logger.info(
                    "%d samples take more than half of the device's free memory: they are sent in "
                    "batches of %d.",
                    len(share),
                    size,
                )
            return SlicedBatches(*tensors, batch_size=batch_size or size, prepare=_pin)
        if self.file is not None:
            size = batch_size or default_batch_size(self.num_features * self.rows.itemsize)
            return SlicedBatches(*tensors, batch_size=size, prepare=_touch)
        return SlicedBatches(*tensors, batch_size=batch_size)

    def _values(self) -> Iterator[Tensor]:
        """The tensors of a batch, for all rows."""
        yield self.rows
        if self.weights is not None:
            yield as_tensor(self.weights)
        elif self.labels is not None:
            yield torch.ones((), dtype=torch.float64).expand(self.num_rows)
        if self.labels is not None:
            yield as_tensor(self.labels)

    def starting_rows(
        self,
        num_components: int,
        random: RandomNumbers,
        *,
        always_samples: bool = False,
    ) -> StartingRows:
        rows, weights, labels = self.rows, self.weights, self.labels
        is_large_file = self.file is not None and rows.nbytes > MAPPED_BYTES
        if always_samples or rows.device.type != "cpu" or is_large_file:
            chosen = sample_indices(self.num_rows, num_components, random)
            if chosen is not None:
                if labels is not None:
                    chosen = _with_labelled(chosen, labels, num_components, random)
                    labels = labels[chosen]
                rows = rows[torch.as_tensor(chosen, device=rows.device)]
                weights = None if weights is None else weights[chosen]
        return StartingRows(rows.detach().cpu().numpy(), weights, labels)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for another process, with the name of a mapped file, not its content."""
        state = {**self.__dict__, "_moved": ()}
        if self.file is not None:
            del state["rows"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.file is not None:
            self.rows = as_tensor(self.file.open())


def _with_labelled(
    chosen: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    num_components: int,
    random: RandomNumbers,
) -> npt.NDArray[np.int64]:
    """Add all labelled rows, or a sample of them, to a sample, which may contain very few."""
    labelled = np.flatnonzero(labels >= 0)
    some = sample_indices(len(labelled), num_components, random)
    return np.union1d(chosen, labelled if some is None else labelled[some])


class SlicedBatches(Batches):
    """Views of consecutive rows; unlike a ``DataLoader``, this copies nothing.

    Parameters
    ----------
    rows : Tensor [N, D]
    *others : Tensor [N]
        Further values for each row.
    batch_size : int or None
        None: all rows are one batch.
    prepare : callable, default=None
        Applied by a thread to each tensor of the next batch.
    """

    def __init__(
        self,
        rows: Tensor,
        *others: Tensor,
        batch_size: int | None,
        prepare: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._tensors: tuple[Tensor, ...] = (rows, *others)
        self._num_rows = rows.shape[0]
        self._batch_size = batch_size or max(1, rows.shape[0])
        self._prepare = prepare
        if prepare is None:
            self.resident_rows = self._num_rows

    def __len__(self) -> int:
        return max(1, math.ceil(self._num_rows / self._batch_size))

    def __iter__(self) -> Iterator[Batch]:
        if self._prepare is None:
            is_whole = self._batch_size >= self._num_rows
            return iter([self._tensors]) if is_whole else map(self._batch, range(len(self)))
        return iter(ReadAhead(self._batch, len(self)))

    def close(self) -> None:
        # The rows may be a copy on a device, whose memory this releases.
        self._tensors = ()

    def _batch(self, index: int) -> Batch:
        start = index * self._batch_size
        batch = tuple(t[start : start + self._batch_size] for t in self._tensors)
        return batch if self._prepare is None else tuple(map(self._prepare, batch))


class MappedFile(NamedTuple):
    """The location of a mapped array on disk."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @classmethod
    def behind(cls, array: npt.NDArray[Any]) -> MappedFile | None:
        """Return the file of a mapped C-contiguous array, None for other arrays."""
        owner: Any = array
        while isinstance(owner, np.ndarray) and not isinstance(owner.base, mmap.mmap):
            owner = owner.base
        name = getattr(owner, "filename", None)
        # Data written to a copy-on-write map are not in the file.
        is_private = getattr(owner, "mode", None) == "c"
        if name is None or is_private or not array.flags.c_contiguous:
            return None
        offset = owner.offset + array.ctypes.data - owner.ctypes.data
        return cls(str(name), array.dtype.str, array.shape, offset)

    def open(self) -> npt.NDArray[Any]:
        """Map the file again."""
        return np.memmap(self.name, self.dtype, "r", self.offset, self.shape)


def rows_a_batch(num_rows: int, row_bytes: int, free_bytes: float) -> int | None:
    """Number of rows to send to a device at once, or None if all of them fit.

    All rows may take half of the free memory, which leaves the rest for the computation. Otherwise
    a batch takes an eighth, since three exist at a time: in use, in transfer and being released.
    """
    if num_rows * row_bytes <= free_bytes / 2:
        return None
    return max(1, int(min(8 * default_batch_size(row_bytes), free_bytes / 8 // row_bytes)))


def _free_bytes(device: torch.device) -> float:
    """Memory for rows; an Apple GPU has that of the host, of which a batch of all takes as much."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf


def _pin(tensor: Tensor) -> Tensor:
    """Copy to page-locked memory, from which a GPU reads asynchronously."""
    return tensor.pin_memory()


def _touch(tensor: Tensor) -> Tensor:
    """Read one value from each page of a mapped file, so that the system loads the pages."""
    if tensor.is_contiguous():
        tensor.view(-1)[:: max(1, _PAGE_BYTES // tensor.itemsize)].sum()
    return tensor
