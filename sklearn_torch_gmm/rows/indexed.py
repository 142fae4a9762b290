"""Rows that are fetched by their numbers: map-style datasets, and arrays kept in a store."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from sklearn_torch_gmm.rows.item_weights import WeighedBatches
from sklearn_torch_gmm.rows.items import as_floats, stack_rows, width_of_row
from sklearn_torch_gmm.rows.read_ahead import LoadedBatches, ReadAhead, loader_of_batches
from sklearn_torch_gmm.rows.sample_weight import relative_weights
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

_VALUE_BYTES = 8

_NEIGHBOURS = 1024
"""Sampled rows of a store that are no farther apart than this are read together."""


class DatasetRows(RowSource):
    """Rows of a map-style ``Dataset``; an item is a row or a tuple whose first member is one.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        Where it has ``__getitems__``, batches are fetched by it.
    weights : ndarray [N], optional
    """

    num_rows: int

    def __init__(
        self, dataset: Dataset[Any], weights: npt.NDArray[np.float64] | None = None
    ) -> None:
        self.dataset = dataset
        self.weights = weights
        self.num_rows = len(dataset)  # type: ignore[arg-type]
        if self.num_rows == 0:
            msg = "Found a dataset with 0 sample(s) (rows) while a minimum of 1 is required."
            raise ValueError(msg)
        self.num_features = width_of_row(dataset[0])

    def batches(
        self,
        batch_size: int | None,
        num_workers: int = 0,
        shard: Shard = WHOLE,
        device: torch.device = CPU,
    ) -> Batches:
        size = batch_size or default_batch_size(self.num_features * _VALUE_BYTES)
        order = _Ranges(*shard.bounds(self.num_rows), size)
        fetch = _Fetch(self.dataset, self.weights, self.num_features)
        return _SizedBatches(loader_of_batches(fetch, num_workers, device, order))

    def starting_rows(
        self, num_components: int, random_state: np.random.RandomState
    ) -> StartingRows:
        chosen = sample_indices(self.num_rows, num_components, random_state)
        numbers = range(self.num_rows) if chosen is None else chosen.tolist()
        fetch = _Fetch(self.dataset, self.weights, self.num_features)
        size = default_batch_size(self.num_features * _VALUE_BYTES)
        order = [numbers[i : i + size] for i in range(0, len(numbers), size)]
        batches = LoadedBatches(loader_of_batches(fetch, 0, CPU, order))
        rows, *weights = (torch.cat(members) for members in zip(*batches.finite(), strict=True))
        return StartingRows(rows.numpy(), *(w.numpy() for w in weights))


class _SizedBatches(LoadedBatches):
    def __len__(self) -> int:
        return len(self._loader)


class _Ranges:
    """Consecutive numbers, batch by batch; an empty batch where there are none."""

    def __init__(self, first: int, behind: int, size: int) -> None:
        self._first, self._behind, self._size = first, behind, size

    def __len__(self) -> int:
        return max(1, math.ceil((self._behind - self._first) / self._size))

    def __iter__(self) -> Iterator[range]:
        for index in range(len(self)):
            start = self._first + index * self._size
            yield range(start, min(start + self._size, self._behind))


class _Fetch(Dataset[Batch]):
    """Batches of a dataset, by the numbers of their rows."""

    def __init__(
        self, dataset: Dataset[Any], weights: npt.NDArray[np.float64] | None, num_features: int
    ) -> None:
        self._dataset = dataset
        self._weights = weights
        self._num_features = num_features

    def __getitem__(self, numbers: Any) -> Batch:
        if len(numbers) == 0:
            rows = torch.empty(0, self._num_features, device="cpu")
        else:
            rows = stack_rows(self._items(numbers), numbers, self._num_features)
        if self._weights is None:
            return (rows,)
        return rows, torch.from_numpy(self._weights[np.asarray(numbers, dtype=np.int64)])

    def _items(self, numbers: Any) -> Any:
        fetch_many = getattr(self._dataset, "__getitems__", None)
        try:
            if callable(fetch_many):
                return fetch_many(list(numbers))
            return [self._dataset[number] for number in numbers]
        except StopIteration as error:
            # A loader would take it for the end of the rows.
            msg = f"The dataset raised StopIteration for rows {numbers[0]} to {numbers[-1]}."
            raise RuntimeError(msg) from error


class StoreRows(RowSource):
    """Rows of an array that is not in memory: of h5py, zarr, or like them.

    Parameters
    ----------
    store : object
        Has ``shape`` and gives rows for a slice, ``store[2:5]``.
    weights : ndarray [N], optional
    keep_all : bool, default=False
        Whether rows of weight zero stay where they are.
    """

    num_rows: int

    def __init__(
        self,
        store: Any,
        weights: npt.NDArray[np.float64] | None = None,
        *,
        keep_all: bool = False,
    ) -> None:
        if len(store.shape) != 2:
            msg = f"Expected 2D array, got an array of shape {tuple(store.shape)} instead."
            raise ValueError(msg)
        self.store = store
        self.weights = weights
        self.keep_all = keep_all
        self.num_rows, self.num_features = (int(extent) for extent in store.shape)
        if self.num_rows == 0 or self.num_features == 0:
            msg = (
                f"Found an array of shape {tuple(store.shape)} while a minimum of 1 sample(s) and "
                "1 feature(s) is required."
            )
            raise ValueError(msg)

    def batches(
        self,
        batch_size: int | None,
        num_workers: int = 0,
        shard: Shard = WHOLE,
        device: torch.device = CPU,
    ) -> Batches:
        size = batch_size or default_batch_size(self.num_features * _VALUE_BYTES)
        first, behind = shard.bounds(self.num_rows)

        def read(index: int) -> Batch:
            start = first + index * size
            place = slice(start, min(start + size, behind))
            batch: Batch = (as_tensor(self._read(place)),)
            if self.weights is not None:
                batch = (*batch, torch.from_numpy(self.weights[place]))
            return tuple(t.pin_memory() for t in batch) if device.type == "cuda" else batch

        batches = ReadAhead(read, max(1, math.ceil((behind - first) / size)))
        return batches if self.weights is None else WeighedBatches(batches, keep_all=self.keep_all)

    def starting_rows(
        self, num_components: int, random_state: np.random.RandomState
    ) -> StartingRows:
        there = np.arange(self.num_rows)
        if self.weights is not None and not self.keep_all:
            there = np.flatnonzero(self.weights)
        sample = sample_indices(len(there), num_components, random_state)
        if sample is None:
            batches = self.batches(None).finite()
            rows, *others = (torch.cat(part).numpy() for part in zip(*batches, strict=True))
            return StartingRows(rows, *map(relative_weights, others))
        chosen = there[sample]
        groups = np.split(chosen, np.flatnonzero(np.diff(chosen // _NEIGHBOURS)) + 1)
        parts = [self._read(slice(g[0], g[-1] + 1))[g - g[0]] for g in groups]
        weights = None if self.weights is None else relative_weights(self.weights[chosen])
        return StartingRows(np.concatenate(parts), weights)

    def _read(self, place: slice) -> npt.NDArray[Any]:
        rows = np.asarray(self.store[place])
        if rows.shape != (place.stop - place.start, self.num_features):
            msg = (
                f"Rows {place.start} to {place.stop - 1} have the shape {rows.shape}, although the "
                f"shape of all rows is {tuple(self.store.shape)}."
            )
            raise ValueError(msg)
        if rows.dtype.kind not in "fiub":
            msg = f"The rows must be real numbers, got the type {rows.dtype}."
            raise ValueError(msg)
        return as_floats(rows).numpy()
