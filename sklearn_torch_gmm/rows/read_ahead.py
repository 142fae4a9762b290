"""Reading in parallel with the computation: a thread that reads ahead, and loader processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from itertools import count, islice
from queue import SimpleQueue
from threading import Thread
from typing import Any

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
)

from sklearn_torch_gmm._private_parts import (
    end_workers,
    exit_codes,
    forget_iterator,
    persistent_iterator,
)
from sklearn_torch_gmm.core.device import as_if_alone
from sklearn_torch_gmm.core.processes import end_with_parent
from sklearn_torch_gmm.rows.source import Batch, Batches

SAMPLERS = (SequentialSampler, RandomSampler, SubsetRandomSampler)
"""Samplers whose length is known to be the number of indices that they yield."""

SECONDS_FOR_A_READER = 1.0
"""Time that an interrupted fit waits for the batch that a thread is reading."""


class ReadAhead(Batches):
    """``num_batches`` batches, of which a thread reads the next one while the last is in use.

    ``read(index)`` returns a batch.
    """

    def __init__(self, read: Callable[[int], Batch], num_batches: int) -> None:
        self._read = read
        self._num_batches = num_batches

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Iterator[Batch]:
        wanted: SimpleQueue[int | None] = SimpleQueue()
        found: SimpleQueue[tuple[Batch, None] | tuple[None, BaseException]] = SimpleQueue()
        # A daemon, since neither a fit nor the program must wait for a store that never answers.
        thread = Thread(target=self._read_wanted, args=(wanted, found), daemon=True)
        thread.start()
        try:
            wanted.put(0)
            for index in range(1, self._num_batches + 1):
                batch, error = found.get()
                if batch is None:
                    assert error is not None
                    raise error
                if index < self._num_batches:
                    wanted.put(index)
                yield batch
        finally:
            wanted.put(None)
            thread.join(SECONDS_FOR_A_READER)

    def _read_wanted(self, wanted: SimpleQueue[int | None], found: SimpleQueue[Any]) -> None:
        while (index := wanted.get()) is not None:
            try:
                found.put((self._read(index), None))
            except BaseException as error:  # any error is raised in the thread of the fit
                found.put((None, error))


class LoadedBatches(Batches):
    """Batches of a ``DataLoader``, whose processes end when they are closed.

    Parameters
    ----------
    loader : DataLoader
    as_batch : callable, default=None
        ``as_batch(item, index)`` converts an item of the loader to a batch.
    every : tuple of int, default=(0, 1)
        ``(i, n)`` selects batch i and every n-th one after it.
    empty : tuple of Tensor, default=None
        The batch to yield if the loader yields no batch.
    """

    def __init__(
        self,
        loader: DataLoader[Any],
        as_batch: Callable[[Any, int], Batch] | None = None,
        every: tuple[int, int] = (0, 1),
        empty: Batch | None = None,
    ) -> None:
        self._loader = loader
        self._as_batch = as_batch
        self._every = every
        self._empty = empty
        self._iterators: list[Any] = []

    def __iter__(self) -> Iterator[Batch]:
        self.close(keep=persistent_iterator(self._loader))
        with as_if_alone():
            # torch's loaders draw CPU random numbers, which fails on another default device.
            items = iter(self._loader)
        self._iterators.append(items)
        first, step = self._every
        batches: Iterator[Batch] = islice(self._whole_pass(items), first, None, step)
        if self._as_batch is not None:
            batches = map(self._as_batch, batches, count(first, step))
        if self._empty is not None:
            yield next(batches, self._empty)
        yield from batches

    def _whole_pass(self, items: Iterator[Any]) -> Iterator[Any]:
        """Iterate over the items; an error is raised if a process of the loader ends too early."""
        number = 0
        while True:
            try:
                item = next(items)
            except StopIteration:
                break
            except (OSError, EOFError) as error:
                # torch may notice the end of a process only by an error about its shared memory.
                codes = exit_codes(items)
                if not codes:
                    raise
                msg = (
                    "A worker process of the DataLoader ended while it was reading (exit code "
                    f"{', '.join(map(str, codes))})."
                )
                raise RuntimeError(msg) from error
            yield item
            number += 1
        expected = _num_batches(self._loader)
        if expected is not None and number < expected:
            msg = (
                f"The DataLoader gave {number} of {expected} batches: its dataset or collate_fn "
                "raised StopIteration, which ended the pass."
            )
            raise ValueError(msg)

    def close(self, keep: Any = None) -> None:
        """End the loader's processes, even if a traceback still references them."""
        for iterator in self._iterators:
            if iterator is not keep:
                end_workers(iterator)
        self._iterators = []
        if keep is None and persistent_iterator(self._loader) is not None:
            # The loader may belong to the user, who can then iterate it again.
            forget_iterator(self._loader)


def loader_of_batches(
    dataset: Dataset[Any], num_workers: int, device: torch.device
) -> DataLoader[Any]:
    """Return a loader of a dataset whose items are batches, to be used on ``device``."""
    return DataLoader(
        dataset,
        batch_size=None,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        multiprocessing_context=_start_method() if num_workers > 0 else None,
        collate_fn=_unchanged,
        pin_memory=device.type == "cuda",
        worker_init_fn=_end_with_parent if num_workers > 0 else None,
        # Without its own generator, a loader would advance torch's global random state.
        generator=torch.Generator(),
    )


def _num_batches(loader: DataLoader[Any]) -> int | None:
    """Return the number of batches in a pass, or None if it is not certain."""
    order = getattr(loader.batch_sampler, "sampler", None)
    is_table = not isinstance(loader.dataset, IterableDataset)
    is_known = is_table and type(loader.batch_sampler) is BatchSampler and type(order) in SAMPLERS
    return len(loader) if is_known else None


def _end_with_parent(worker: int) -> None:
    end_with_parent()


def _start_method() -> str | None:
    """The start method of the workers, or None for Python's default."""
    is_in_joblib = multiprocessing.get_start_method(allow_none=True) == "loky"
    # joblib's processes use its own start method, which torch does not support.
    return multiprocessing.get_all_start_methods()[0] if is_in_joblib else None


def _unchanged(batch: Any) -> Any:
    return batch
