"""Rows that can only be read one after another: iterable datasets and loaders."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain, count, islice
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    SequentialSampler,
    get_worker_info,
)

from sklearn_torch_gmm.rows.item_weights import WeighedBatches, weights_of_batch, weights_of_rows
from sklearn_torch_gmm.rows.items import rows_of_batch, stack_rows, width_of_row
from sklearn_torch_gmm.rows.read_ahead import LoadedBatches, loader_of_batches
from sklearn_torch_gmm.rows.reservoir import Reservoir
from sklearn_torch_gmm.rows.sample_weight import check_total, relative_weights
from sklearn_torch_gmm.rows.source import (
    CPU,
    WHOLE,
    Batch,
    Batches,
    RowSource,
    Shard,
    StartingRows,
    default_batch_size,
    sample_size,
)

_VALUE_BYTES = 8


class _UnsizedRows(RowSource):
    """Rows whose number only reading all of them tells.

    Parameters
    ----------
    weighted : bool, default=False
        Whether each item is a pair whose second member is the weight of the row or the weights of
        the batch; otherwise a second member is ignored.
    keep_all : bool, default=False
        Whether rows of weight zero stay where they are.
    """

    num_rows: int | None = None

    def __init__(self, *, weighted: bool, keep_all: bool) -> None:
        self.weighted = weighted
        self.keep_all = keep_all

    @property
    def rows_a_pass(self) -> int | None:
        return self.num_rows

    def starting_rows(
        self, num_components: int, random_state: np.random.RandomState
    ) -> StartingRows:
        """Read all rows, and keep a sample."""
        reservoir = Reservoir(sample_size(num_components), random_state)
        self.total_weight, total = None, 0.0
        with self.batches(None) as batches:
            for members in batches.finite():
                reservoir.add(*(member.cpu().numpy() for member in members))
                total += sum(weights.sum().item() for weights in members[1:])
        self.num_rows = reservoir.seen
        if not self.weighted:
            return StartingRows(reservoir.rows())
        check_total(total)
        self.total_weight = total
        return StartingRows(reservoir.rows(), relative_weights(reservoir.weights()))

    def _with_mean_of_one(self, batches: Batches) -> Batches:
        """Weights like those of rows in memory, once all have been read."""
        if not self.weighted:
            return batches
        unit = 1.0
        if self.total_weight is not None and self.num_rows is not None:
            unit = self.total_weight / self.num_rows
        return WeighedBatches(batches, unit, keep_all=self.keep_all)


class StreamRows(_UnsizedRows):
    """Rows of an ``IterableDataset``; an item is a row or a tuple whose first member is one.

    A stream that has a method ``shard(num_shards, index)`` is asked by it for the part of a process
    or a worker. Any other is dealt out row by row: each of several processes iterates it whole,
    and one worker at most reads it.

    Parameters
    ----------
    stream : IterableDataset
        Gives the same rows each time it is iterated.
    weighted, keep_all : bool, default=False
        Whether an item is a pair of a row and its weight, and whether rows of weight zero stay.
    """

    def __init__(
        self, stream: IterableDataset[Any], *, weighted: bool = False, keep_all: bool = False
    ) -> None:
        super().__init__(weighted=weighted, keep_all=keep_all)
        self.stream = stream
        first = next(iter(stream), None)
        if first is None:
            _raise_for_nothing("stream")
        self.num_features = width_of_row(first)

    def batches(
        self,
        batch_size: int | None,
        num_workers: int = 0,
        shard: Shard = WHOLE,
        device: torch.device = CPU,
    ) -> Batches:
        size = batch_size or default_batch_size(self.num_features * _VALUE_BYTES)
        if not _can_shard(self.stream):
            num_workers = min(num_workers, 1)
        batches = _StreamBatches(self.stream, self.num_features, size, shard, self.weighted)
        loader = loader_of_batches(batches, num_workers, device, None)
        return self._with_mean_of_one(LoadedBatches(loader))


class _StreamBatches(IterableDataset[Batch]):
    """Batches of the rows of a stream that belong to a process, and in it to a worker."""

    def __init__(
        self,
        stream: IterableDataset[Any],
        num_features: int,
        batch_size: int,
        shard: Shard,
        weighted: bool,
    ) -> None:
        self._stream = stream
        self._num_features = num_features
        self._batch_size = batch_size
        self._shard = shard
        self._weighted = weighted

    def __iter__(self) -> Iterator[Batch]:
        items, numbers = self._share()
        is_empty = True
        while part := list(islice(items, self._batch_size)):
            is_empty = False
            names = list(islice(numbers, len(part)))
            rows = stack_rows(part, names, self._num_features)
            yield (rows, weights_of_rows(part, names)) if self._weighted else (rows,)
        if is_empty:
            yield _nothing(self._num_features, self._weighted)

    def _share(self) -> tuple[Iterator[Any], Iterator[int]]:
        """The items that are read here, and their numbers."""
        stream, shard = self._stream, self._shard
        worker = get_worker_info()
        if _can_shard(stream):
            if worker is not None:
                shard = Shard(
                    shard.index * worker.num_workers + worker.id, shard.count * worker.num_workers
                )
            if shard.count > 1:
                stream = stream.shard(num_shards=shard.count, index=shard.index)  # type: ignore[attr-defined]
            return iter(stream), count()
        items = _not_exhausted(iter(stream))
        return islice(items, shard.index, None, shard.count), count(shard.index, shard.count)


class LoaderRows(_UnsizedRows):
    """Rows of a ``DataLoader``, in its batches and by its workers.

    Several processes take turns with the batches.

    Parameters
    ----------
    loader : DataLoader
        Gives batches of rows ``[n, D]``, or tuples whose first member is one.
    weighted, keep_all : bool, default=False
        Whether an item is a pair of a batch and the weights ``[n]`` of its rows, and whether rows
        of weight zero stay.
    """

    def __init__(
        self, loader: DataLoader[Any], *, weighted: bool = False, keep_all: bool = False
    ) -> None:
        super().__init__(weighted=weighted, keep_all=keep_all)
        self.loader = loader
        with LoadedBatches(loader, partial(_as_batch, weighted=weighted)) as batches:
            first = next(iter(batches), None)
        if first is None:
            _raise_for_nothing("loader")
        self.num_features = first[0].shape[1]

    def batches(
        self,
        batch_size: int | None,
        num_workers: int = 0,
        shard: Shard = WHOLE,
        device: torch.device = CPU,
    ) -> Batches:
        as_batch = partial(_as_batch, num_features=self.num_features, weighted=self.weighted)
        loader, every = self.loader, (0, 1)
        if shard.count > 1:
            loader, every = self._share(shard)
        nothing = _nothing(self.num_features, self.weighted)
        return self._with_mean_of_one(_NeverNone(LoadedBatches(loader, as_batch, every), nothing))

    def check_shared(self) -> None:
        """Raise ValueError if processes might not agree on the order of the rows."""
        if isinstance(self.loader.dataset, IterableDataset):
            return
        batches = self.loader.batch_sampler
        order: Any = self.loader.sampler if batches is None else batches
        if type(order) is BatchSampler:
            order = order.sampler
        is_sequence = isinstance(order, (list, tuple, range, np.ndarray, Tensor))
        if type(order) is not SequentialSampler and not is_sequence:
            msg = (
                f"Several processes cannot share a DataLoader with a {type(order).__name__}: each "
                "of them might see another order, and rows would be repeated or left out. Pass one "
                "with shuffle=False; its batches are then dealt out, so that each row counts once. "
                "The order of rows changes nothing."
            )
            raise ValueError(msg)

    def _share(self, shard: Shard) -> tuple[DataLoader[Any], tuple[int, int]]:
        """A loader of one process, and which of its batches to take."""
        self.check_shared()
        loader, every = self.loader, (shard.index, shard.count)
        is_map = not isinstance(loader.dataset, IterableDataset)
        if not is_map or type(loader.batch_sampler) is not BatchSampler:
            return loader, every
        share = DataLoader(
            loader.dataset,
            batch_sampler=_EveryNth(loader.batch_sampler, *every),
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
            timeout=loader.timeout,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
            generator=loader.generator,
            prefetch_factor=loader.prefetch_factor,
            persistent_workers=loader.persistent_workers,
        )
        return share, (0, 1)


class _EveryNth:
    """Every n-th of the batches of a sampler."""

    def __init__(self, sampler: Any, first: int, step: int) -> None:
        self._sampler, self._first, self._step = sampler, first, step

    def __len__(self) -> int:
        return len(range(self._first, len(self._sampler), self._step))

    def __iter__(self) -> Iterator[Any]:
        return islice(self._sampler, self._first, None, self._step)


class _NeverNone(Batches):
    """Batches, and an empty one where there are none."""

    def __init__(self, batches: Batches, nothing: Batch) -> None:
        self._batches = batches
        self._nothing = nothing

    def __iter__(self) -> Iterator[Batch]:
        is_empty = True
        for batch in self._batches:
            is_empty = False
            yield batch
        if is_empty:
            yield self._nothing

    def close(self) -> None:
        self._batches.close()


def _can_shard(stream: IterableDataset[Any]) -> bool:
    return callable(getattr(stream, "shard", None))


def _not_exhausted(items: Iterator[Any]) -> Iterator[Any]:
    """Items of a stream that is known to have some."""
    for first in items:
        return chain([first], items)
    msg = (
        "The stream gave rows once and none when it was iterated again. EM reads the rows once an "
        "iteration: each call of the dataset's __iter__ must begin anew."
    )
    raise ValueError(msg)


def _as_batch(item: Any, index: int, num_features: int | None = None, *, weighted: bool) -> Batch:
    rows = rows_of_batch(item, index, num_features)
    return (rows, weights_of_batch(item, index, len(rows))) if weighted else (rows,)


def _nothing(num_features: int, weighted: bool) -> Batch:
    rows = torch.empty(0, num_features, device="cpu")
    return (rows, torch.empty(0, device="cpu")) if weighted else (rows,)


def _raise_for_nothing(what: str) -> NoReturn:
    msg = f"Found a {what} with 0 sample(s) (rows) while a minimum of 1 is required."
    raise ValueError(msg)
