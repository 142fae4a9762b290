"""Rows that can only be read in sequence, from iterable datasets and loaders."""

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
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    get_worker_info,
)

from sklearn_torch_gmm.rows.item_weights import WeightedBatches, weights_of_batch, weights_of_rows
from sklearn_torch_gmm.rows.items import first_row, rows_of_batch, stack_rows, values_of_batch
from sklearn_torch_gmm.rows.random_numbers import RandomNumbers
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
    sample_size,
)
from sklearn_torch_gmm.rows.tensors import device_of


class _UnsizedRows(RowSource):
    """Rows whose number is unknown before all have been read.

    If ``weighted``, each item is a pair whose second value is the weight of the row or the weights
    of the batch; otherwise a second value is ignored. Rows of weight zero are dropped,
    unless ``keep_all``.
    """

    num_rows: int | None = None

    def __init__(self, *, weighted: bool, keep_all: bool) -> None:
        self.weighted = weighted
        self.keep_all = keep_all

    @property
    def rows_a_pass(self) -> int | None:
        return self.num_rows

    def starting_rows(
        self,
        num_components: int,
        random: RandomNumbers,
        *,
        always_samples: bool = False,
    ) -> StartingRows:
        """Read all rows, and return a sample."""
        reservoir = Reservoir(sample_size(num_components), random.state)
        self.total_weight, total = None, 0.0
        with self.batches(None) as batches:
            for batch in batches.finite(allow_missing=self.allow_missing):
                reservoir.add(*(values.cpu().numpy() for values in batch))
                total += sum(weights.sum().item() for weights in batch[1:])
        self.num_rows = reservoir.seen
        if not self.weighted:
            return StartingRows(reservoir.rows())
        check_total(total)
        self.total_weight = total
        return StartingRows(reservoir.rows(), relative_weights(reservoir.weights()))

    def _with_mean_of_one(self, batches: Batches) -> Batches:
        """Divide the weights by their mean, as for rows in memory, once all have been read."""
        if not self.weighted:
            return batches
        unit = 1.0
        if self.total_weight is not None and self.num_rows is not None:
            unit = self.total_weight / self.num_rows
        return WeightedBatches(batches, unit, keep_all=self.keep_all)

    def _empty_batch(self) -> Batch:
        rows = torch.empty(0, self.num_features, device="cpu")
        return (rows, torch.empty(0, device="cpu")) if self.weighted else (rows,)


class StreamRows(_UnsizedRows):
    """Rows of an ``IterableDataset``; an item is a row or a tuple that begins with one.

    The stream must yield the same rows in each iteration. If it has a method ``shard(num_shards,
    index)``, each process and worker reads the shard that this returns. Otherwise each
    of several processes iterates over the whole stream, with at most one worker, and takes turns.
    """

    def __init__(
        self, stream: IterableDataset[Any], *, weighted: bool = False, keep_all: bool = False
    ) -> None:
        super().__init__(weighted=weighted, keep_all=keep_all)
        self.stream = stream
        first = next(iter(stream), None)
        if first is None:
            _raise_for_empty("stream")
        row = first_row(first)
        self.num_features, self.tensor_device = len(row), device_of(row)

    def batches(
        self,
        batch_size: int | None,
        num_workers: int = 0,
        shard: Shard = WHOLE,
        device: torch.device = CPU,
    ) -> Batches:
        if not _can_shard(self.stream):
            num_workers = min(num_workers, 1)
        parts = _StreamBatches(self, self._rows_per_batch(batch_size), shard)
        loader = loader_of_batches(parts, num_workers, device)
        return self._with_mean_of_one(LoadedBatches(loader, empty=self._empty_batch()))


class _StreamBatches(IterableDataset[Batch]):
    """Batches of the rows of a stream that belong to a process, or to a worker of it."""

    def __init__(self, source: StreamRows, batch_size: int, shard: Shard) -> None:
        self._source = source
        self._batch_size = batch_size
        self._shard = shard

    def __iter__(self) -> Iterator[Batch]:
        items, numbers = self._share()
        while part := list(islice(items, self._batch_size)):
            row_numbers = list(islice(numbers, len(part)))
            rows = stack_rows(part, row_numbers, self._source.num_features)
            yield (rows, weights_of_rows(part, row_numbers)) if self._source.weighted else (rows,)

    def _share(self) -> tuple[Iterator[Any], Iterator[int]]:
        """Return the items of this process or worker, and their numbers."""
        stream, shard = self._source.stream, self._shard
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
    """Rows of a ``DataLoader``, in its batches, which its workers read.

    It must yield batches of rows ``[n, D]``, or tuples that begin with them. Several processes take
    turns with the batches.
    """

    def __init__(
        self, loader: DataLoader[Any], *, weighted: bool = False, keep_all: bool = False
    ) -> None:
        super().__init__(weighted=weighted, keep_all=keep_all)
        _check_order(loader)
        self.loader = loader
        with LoadedBatches(loader) as batches:
            first = next(iter(batches), None)
        if first is None:
            _raise_for_empty("loader")
        self.num_features = _as_batch(first, 0, weighted=weighted)[0].shape[1]
        self.tensor_device = device_of(values_of_batch(first))

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
        batches = LoadedBatches(loader, as_batch, every, self._empty_batch())
        return self._with_mean_of_one(batches)

    @property
    def has_order(self) -> bool:
        return not _shuffles(self.loader)

    def check_shared(self) -> None:
        """Raise a ValueError if processes might not agree on the order of the rows."""
        if isinstance(self.loader.dataset, IterableDataset):
            return
        order = _order_of(self.loader)
        is_sequence = isinstance(order, (list, tuple, range, np.ndarray, Tensor))
        if type(order) is not SequentialSampler and not is_sequence:
            msg = (
                f"Several processes cannot share a DataLoader with a {type(order).__name__}: each "
                "might see a different order, and samples would be repeated or left out. Pass one "
                "with shuffle=False, whose batches are divided among the processes so that each "
                "sample counts once. The order of the samples does not change the result."
            )
            raise ValueError(msg)

    def _share(self, shard: Shard) -> tuple[DataLoader[Any], tuple[int, int]]:
        """Return a loader for one process, and the selection of its batches."""
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
    """Every n-th batch of a sampler."""

    def __init__(self, sampler: Any, first: int, step: int) -> None:
        self._sampler, self._first, self._step = sampler, first, step

    def __len__(self) -> int:
        return len(range(self._first, len(self._sampler), self._step))

    def __iter__(self) -> Iterator[Any]:
        return islice(self._sampler, self._first, None, self._step)


def _can_shard(stream: IterableDataset[Any]) -> bool:
    return callable(getattr(stream, "shard", None))


def _not_exhausted(items: Iterator[Any]) -> Iterator[Any]:
    """Iterate over a stream that is known to be non-empty."""
    for first in items:
        return chain([first], items)
    msg = (
        "The stream was empty when it was iterated over again. EM reads all samples in each "
        "iteration: each call of the dataset's __iter__ must start from the beginning."
    )
    raise ValueError(msg)


def _as_batch(item: Any, index: int, num_features: int | None = None, *, weighted: bool) -> Batch:
    rows = rows_of_batch(item, index, num_features)
    return (rows, weights_of_batch(item, index, len(rows))) if weighted else (rows,)


def _order_of(loader: DataLoader[Any]) -> Any:
    """Return the sampler of rows or of batches, given by the user or made by torch."""
    order = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
    return order.sampler if type(order) is BatchSampler else order


def _shuffles(loader: DataLoader[Any]) -> bool:
    """Whether torch shuffles the rows; subclasses may do as they like."""
    samplers = RandomSampler, SubsetRandomSampler
    return type(loader) is DataLoader and type(_order_of(loader)) in samplers


def _check_order(loader: DataLoader[Any]) -> None:
    """Raise a ValueError if each pass would draw other rows, as with replacement."""
    order = _order_of(loader)
    # A sampler of batches may draw from a sampler of rows.
    sampler = getattr(order, "sampler", order)
    reason, remedy = "", "Draw once, with DataLoader(Subset(dataset, list(sampler)))"
    if isinstance(sampler, WeightedRandomSampler) or getattr(sampler, "replacement", False):
        reason = f"A {type(sampler).__name__} draws samples with replacement"
        remedy += ", or pass the dataset, with the weights of its samples as sample_weight"
    elif type(order) is RandomSampler and len(order) % len(order.data_source) > 0:
        reason = f"A RandomSampler with num_samples={len(order)} draws samples"
    elif _shuffles(loader) and _leaves_some_out(loader, len(order)):
        reason = "A DataLoader that shuffles leaves out samples if drop_last=True"
        remedy = "Pass drop_last=False"
    if reason:
        msg = (
            f"{reason}, others each time that the DataLoader is read, but every iteration of EM "
            f"must read the same. {remedy}."
        )
        raise ValueError(msg)


def _leaves_some_out(loader: DataLoader[Any], num_rows: int) -> bool:
    """Whether torch drops a last batch that is not full."""
    batches = loader.batch_sampler
    if type(batches) is not BatchSampler:
        return False
    return batches.drop_last and num_rows % batches.batch_size > 0


def _raise_for_empty(kind: str) -> NoReturn:
    msg = f"Found a {kind} with 0 sample(s) while a minimum of 1 is required."
    raise ValueError(msg)
