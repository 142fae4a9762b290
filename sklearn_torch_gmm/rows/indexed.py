"""Rows that are read by index: map-style datasets, and arrays in a store such as HDF5 or zarr."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from sklearn_torch_gmm.rows.item_weights import WeightedBatches
from sklearn_torch_gmm.rows.items import as_floats, first_row, stack_rows
from sklearn_torch_gmm.rows.random_numbers import RandomNumbers
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
    sample_indices,
)
from sklearn_torch_gmm.rows.tensors import as_tensor, device_of

_BLOCK_ROWS = 1024
"""Number of consecutive rows of a store whose sampled rows are read together.

Twice as many halve the number of reads, but may read more rows outside the sample.
"""


class DatasetRows(RowSource):
    """Rows of a map-style ``Dataset``, with optional weights ``[N]``.

    An item is a row or a tuple that begins with one. If the dataset has ``__getitems__``, batches
    are read with it.
    """

    num_rows: int

    def __init__(
        self, dataset: Dataset[Any], weights: npt.NDArray[np.float64] | None = None
    ) -> None:
        self.dataset = dataset
        self.weights = weights
        self.num_rows = len(dataset)  # type: ignore[arg-type]
        if self.num_rows == 0:
            msg = "Found a dataset with 0 sample(s) while a minimum of 1 is required."
            raise ValueError(msg)
        row = first_row(dataset[0])
        self.num_features, self.tensor_device = len(row), device_of(row)

    def batches(
        self,
        batch_size: int | None,
        num_workers: int = 0,
        shard: Shard = WHOLE,
        device: torch.device = CPU,
    ) -> Batches:
        indices = shard.rows(self.num_rows)
        parts = _IndexedBatches(self, indices, self._rows_per_batch(batch_size))
        return _SizedBatches(loader_of_batches(parts, num_workers, device))

    def starting_rows(
        self,
        num_components: int,
        random: RandomNumbers,
        *,
        always_samples: bool = False,
    ) -> StartingRows:
        chosen = sample_indices(self.num_rows, num_components, random)
        indices = range(self.num_rows) if chosen is None else chosen.tolist()
        parts = _IndexedBatches(self, indices, self._rows_per_batch(None))
        batches = LoadedBatches(loader_of_batches(parts, 0, CPU))
        finite = batches.finite(allow_missing=self.allow_missing)
        rows, *weights = (torch.cat(tensors) for tensors in zip(*finite, strict=True))
        return StartingRows(rows.numpy(), *(w.numpy() for w in weights))


class _SizedBatches(LoadedBatches):
    def __len__(self) -> int:
        return len(self._loader)


class _IndexedBatches(Dataset[Batch]):
    """Batches of the rows of a dataset at ``indices``; an empty one if there are no indices."""

    def __init__(self, source: DatasetRows, indices: Sequence[int], batch_size: int) -> None:
        self._source = source
        self._indices = indices
        self._batch_size = batch_size

    def __len__(self) -> int:
        return max(1, math.ceil(len(self._indices) / self._batch_size))

    def __getitem__(self, number: int) -> Batch:
        start = number * self._batch_size
        indices = self._indices[start : start + self._batch_size]
        num_features, weights = self._source.num_features, self._source.weights
        if len(indices) == 0:
            rows = torch.empty(0, num_features, device="cpu")
        else:
            rows = stack_rows(self._items(indices), indices, num_features)
        if weights is None:
            return (rows,)
        return rows, torch.from_numpy(weights[np.asarray(indices, dtype=np.int64)])

    def _items(self, indices: Sequence[int]) -> Any:
        dataset = self._source.dataset
        fetch_many = getattr(dataset, "__getitems__", None)
        try:
            if callable(fetch_many):
                return fetch_many(list(indices))
            return [dataset[index] for index in indices]
        except StopIteration as error:
            # A loader would interpret it as the end of the data.
            msg = f"The dataset raised StopIteration for samples {indices[0]} to {indices[-1]}."
            raise RuntimeError(msg) from error


class StoreRows(RowSource):
    """Rows of an array that is not in memory, such as one of h5py or zarr.

    Parameters
    ----------
    store : object
        An object with a ``shape`` that returns rows for a slice, ``store[2:5]``.
    weights : ndarray [N], optional
    """

    num_rows: int

    def __init__(self, store: Any, weights: npt.NDArray[np.float64] | None = None) -> None:
        if len(store.shape) != 2:
            msg = f"Expected 2D array, got an array of shape {tuple(store.shape)} instead."
            raise ValueError(msg)
        self.store = store
        self.weights = weights
        self.num_rows, self.num_features = map(int, store.shape)
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
        size = self._rows_per_batch(batch_size)
        share = shard.rows(self.num_rows)

        def read(number: int) -> Batch:
            indices = share[number * size : (number + 1) * size]
            place = slice(indices.start, indices.stop)
            batch: Batch = (as_tensor(self._read(place)),)
            if self.weights is not None:
                batch = (*batch, torch.from_numpy(self.weights[place]))
            return tuple(t.pin_memory() for t in batch) if device.type == "cuda" else batch

        batches = ReadAhead(read, max(1, math.ceil(len(share) / size)))
        return batches if self.weights is None else WeightedBatches(batches)

    def starting_rows(
        self,
        num_components: int,
        random: RandomNumbers,
        *,
        always_samples: bool = False,
    ) -> StartingRows:
        candidates = np.arange(self.num_rows)
        if self.weights is not None:
            candidates = np.flatnonzero(self.weights)
        sample = sample_indices(len(candidates), num_components, random)
        if sample is None:
            batches = self.batches(None).finite(allow_missing=self.allow_missing)
            rows, *others = (torch.cat(part).numpy() for part in zip(*batches, strict=True))
            return StartingRows(rows, relative_weights(others[0]) if others else None)
        chosen = candidates[sample]
        groups = np.split(chosen, np.flatnonzero(np.diff(chosen // _BLOCK_ROWS)) + 1)
        parts = [self._read(slice(g[0], g[-1] + 1))[g - g[0]] for g in groups]
        weights = None if self.weights is None else relative_weights(self.weights[chosen])
        return StartingRows(np.concatenate(parts), weights)

    def _read(self, place: slice) -> npt.NDArray[Any]:
        part = self.store[place]
        if hasattr(part, "tocsr"):
            msg = (
                "Sparse data was passed for X, but dense data is required. Pass a dense embedding "
                "of the samples, such as their principal components."
            )
            raise TypeError(msg)
        rows = np.asarray(part)
        if rows.shape != (place.stop - place.start, self.num_features):
            msg = (
                f"Samples {place.start} to {place.stop - 1} have the shape {rows.shape}, although "
                f"the shape of the whole array is {tuple(self.store.shape)}."
            )
            raise ValueError(msg)
        if rows.dtype.kind not in "fiub":
            msg = f"The samples must be real numbers, got the dtype {rows.dtype}."
            raise ValueError(msg)
        return as_floats(rows).numpy()
