"""Reading while others compute: a thread that reads ahead, and processes that end when told."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from sklearn_torch_gmm._private_parts import end_workers, forget_iterator, persistent_iterator
from sklearn_torch_gmm.core.device import as_if_alone
from sklearn_torch_gmm.rows.source import Batch, Batches


class ReadAhead(Batches):
    """Batches that a thread reads while the one before is worked on.

    Parameters
    ----------
    read : callable
        ``read(index)`` gives a batch.
    count : int
        Number of batches.
    """

    def __init__(self, read: Callable[[int], Batch], count: int) -> None:
        self._read = read
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Batch]:
        with ThreadPoolExecutor(1) as thread:
            coming = thread.submit(self._read, 0)
            for index in range(1, self._count + 1):
                batch = coming.result()
                if index < self._count:
                    coming = thread.submit(self._read, index)
                yield batch


class LoadedBatches(Batches):
    """Batches of a ``DataLoader``, whose processes end with it.

    Parameters
    ----------
    loader : DataLoader
    as_batch : callable, default=None
        ``as_batch(item, index)`` makes a batch of what the loader gives.
    every : tuple of int, default=(0, 1)
        ``(i, n)`` takes batch i and every n-th after it.
    """

    def __init__(
        self,
        loader: DataLoader[Any],
        as_batch: Callable[[Any, int], Batch] | None = None,
        every: tuple[int, int] = (0, 1),
    ) -> None:
        self._loader = loader
        self._as_batch = as_batch
        self._every = every
        self._iterators: list[Any] = []

    def __iter__(self) -> Iterator[Batch]:
        self.close(keep=persistent_iterator(self._loader))
        with as_if_alone():
            # torch's loaders draw from the CPU's random numbers, on the default device.
            items = iter(self._loader)
        self._iterators.append(items)
        first, step = self._every
        for index, item in enumerate(islice(items, first, None, step)):
            yield item if self._as_batch is None else self._as_batch(item, first + index * step)

    def close(self, keep: Any = None) -> None:
        """End the loader's processes, also where a traceback still refers to them."""
        for iterator in self._iterators:
            if iterator is not keep:
                end_workers(iterator)
        self._iterators = []
        if keep is None and persistent_iterator(self._loader) is not None:
            # The loader may be the user's, who will want to iterate it again.
            forget_iterator(self._loader)


def loader_of_batches(
    dataset: Dataset[Any], num_workers: int, device: torch.device, order: Iterable[Any] | None
) -> DataLoader[Any]:
    """Return a loader of a dataset whose items are batches.

    Parameters
    ----------
    dataset : Dataset
    num_workers : int
    device : torch.device
        Where the batches are needed.
    order : iterable or None
        Indices of the items; None for a dataset that is iterated.
    """
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=order,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        multiprocessing_context=_way_to_start() if num_workers > 0 else None,
        collate_fn=_as_it_is,
        pin_memory=device.type == "cuda",
        # A loader without a generator of its own draws from torch's random numbers.
        generator=torch.Generator(),
    )


def _way_to_start() -> str | None:
    """How workers are started, if not as Python does by itself."""
    is_in_joblib = multiprocessing.get_start_method(allow_none=True) == "loky"
    # In its processes joblib makes its own way the first choice, by which torch cannot start any.
    return multiprocessing.get_all_start_methods()[0] if is_in_joblib else None


def _as_it_is(batch: Any) -> Any:
    return batch
