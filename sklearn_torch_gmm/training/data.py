"""Where rows come from, and how they reach the loop.

Whatever the source, the loop sees batches: tuples of ``rows [n, D]`` or ``(rows, weights [n])``.
No batch repeats or drops a row; sums over batches are exact.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sklearn_torch_gmm._arrays import as_tensor

Batch = tuple[Tensor, ...]

SAMPLE_ROWS = 100_000
"""Rows that a start is taken from where not all of them are in the host's memory."""


@dataclass(frozen=True)
class Shard:
    """The rows that one of several processes reads."""

    index: int
    count: int

    def bounds(self, num_rows: int) -> tuple[int, int]:
        """First row of the shard, and of the next: each row belongs to one of them."""
        first, behind = (num_rows * (self.index + i) // self.count for i in (0, 1))
        return first, behind


WHOLE = Shard(0, 1)


class StartingRows(NamedTuple):
    """Rows in host memory that a start is taken from."""

    rows: npt.NDArray[Any]
    """``[M, D]``"""

    weights: npt.NDArray[np.float64] | None = None
    """``[M]``, or None where all rows weigh the same."""


class RowSource(ABC):
    """Rows of D features that can be read once an iteration."""

    num_rows: int
    num_features: int

    @abstractmethod
    def batches(
        self, batch_size: int | None, num_workers: int, shard: Shard = WHOLE
    ) -> Iterable[Batch]:
        """An iterable that yields the rows of the shard, each time it is iterated.

        It yields at least one batch, which may be empty: every process takes part in every epoch.
        """

    @abstractmethod
    def starting_rows(
        self, num_components: int, random_state: np.random.RandomState
    ) -> StartingRows:
        """All rows where they are in host memory, a random sample of them elsewhere."""


class SlicedBatches:
    """Views of consecutive rows; unlike a ``DataLoader``, nothing is copied.

    Parameters
    ----------
    rows : Tensor [N, D]
    weights : Tensor [N] or None
    batch_size : int or None
    """

    def __init__(self, rows: Tensor, weights: Tensor | None, batch_size: int | None) -> None:
        self._tensors = (rows,) if weights is None else (rows, weights)
        self._batch_size = batch_size or max(1, rows.shape[0])

    def __len__(self) -> int:
        return max(1, math.ceil(self._tensors[0].shape[0] / self._batch_size))

    def __iter__(self) -> Iterator[Batch]:
        for index in range(len(self)):
            start = index * self._batch_size
            yield tuple(t[start : start + self._batch_size] for t in self._tensors)


class ArrayRows(RowSource):
    """Rows of an array, a memory map or a tensor.

    Parameters
    ----------
    rows : ndarray or Tensor [N, D]
    weights : ndarray [N], optional
    """

    def __init__(
        self,
        rows: npt.NDArray[Any] | Tensor,
        weights: npt.NDArray[np.float64] | None = None,
    ) -> None:
        self.rows = rows if isinstance(rows, Tensor) else as_tensor(rows)
        self.weights = weights
        self.num_rows, self.num_features = self.rows.shape

    def batches(
        self, batch_size: int | None, num_workers: int, shard: Shard = WHOLE
    ) -> Iterable[Batch]:
        place = slice(*shard.bounds(self.num_rows))
        weights = None if self.weights is None else as_tensor(self.weights)[place]
        return SlicedBatches(self.rows[place], weights, batch_size)

    def starting_rows(
        self, num_components: int, random_state: np.random.RandomState
    ) -> StartingRows:
        rows, weights = self.rows, self.weights
        if rows.device.type != "cpu":
            chosen = _sample_indices(self.num_rows, num_components, random_state)
            if chosen is not None:
                rows = rows[torch.as_tensor(chosen, device=rows.device)]
                weights = None if weights is None else weights[chosen]
        return StartingRows(rows.detach().cpu().numpy(), weights)


class DatasetRows(RowSource):
    """Rows of a map-style ``Dataset``; an item is a row or a tuple whose first member is one.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
    weights : ndarray [N], optional
    """

    def __init__(
        self, dataset: Dataset[Any], weights: npt.NDArray[np.float64] | None = None
    ) -> None:
        self.dataset = dataset
        self.weights = weights
        self.num_rows = len(dataset)  # type: ignore[arg-type]
        if self.num_rows == 0:
            msg = "Found a dataset with 0 sample(s) (rows) while a minimum of 1 is required."
            raise ValueError(msg)
        self.num_features = _first_member(dataset[0]).shape[0]

    def batches(
        self, batch_size: int | None, num_workers: int, shard: Shard = WHOLE
    ) -> Iterable[Batch]:
        first, behind = shard.bounds(self.num_rows)
        if first == behind:
            return [(torch.empty(0, self.num_features),)]
        dataset = self.dataset if self.weights is None else _Weighted(self.dataset, self.weights)
        return DataLoader(
            dataset,
            batch_size=batch_size or self.num_rows,
            sampler=range(first, behind),
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            collate_fn=_stack_rows if self.weights is None else _stack_weighted_rows,
        )

    def starting_rows(
        self, num_components: int, random_state: np.random.RandomState
    ) -> StartingRows:
        chosen = _sample_indices(self.num_rows, num_components, random_state)
        indices = np.arange(self.num_rows) if chosen is None else chosen
        (rows,) = _stack_rows([self.dataset[int(i)] for i in indices])
        weights = None if self.weights is None else self.weights[indices]
        return StartingRows(rows.numpy(), weights)


class _Weighted(Dataset[Any]):
    """Items with their weights."""

    def __init__(self, dataset: Dataset[Any], weights: npt.NDArray[np.float64]) -> None:
        self._dataset = dataset
        self._weights = weights

    def __len__(self) -> int:
        return len(self._weights)

    def __getitem__(self, index: int) -> tuple[Any, float]:
        return self._dataset[index], float(self._weights[index])


def _sample_indices(
    num_rows: int, num_components: int, random_state: np.random.RandomState
) -> npt.NDArray[np.int64] | None:
    """Sorted indices of a random sample, or None where it would be all rows."""
    size = max(SAMPLE_ROWS, 256 * num_components)
    if num_rows <= size:
        return None
    return np.sort(random_state.choice(num_rows, size=size, replace=False))


def _first_member(item: Any) -> Tensor:
    is_tuple = isinstance(item, (tuple, list)) and len(item) > 0 and np.ndim(item[0]) > 0
    tensor = torch.as_tensor(item[0] if is_tuple else item)
    if tensor.ndim != 1:
        msg = (
            "A dataset's item must be a row of shape [D], or a tuple whose first member is one; "
            f"got shape {list(tensor.shape)}."
        )
        raise ValueError(msg)
    return tensor if tensor.is_floating_point() else tensor.double()


def _stack_rows(items: list[Any]) -> Batch:
    return (torch.stack([_first_member(item) for item in items]),)


def _stack_weighted_rows(items: list[tuple[Any, float]]) -> Batch:
    rows, weights = zip(*items, strict=True)
    return (*_stack_rows(list(rows)), torch.tensor(weights, dtype=torch.float64))
