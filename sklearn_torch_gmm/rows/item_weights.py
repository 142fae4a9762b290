"""Weights that come with the rows, as the second value of each pair from a stream or a loader.

Usually a second value is a label. It is interpreted as a weight only if the user has requested it,
and then every item must be a pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from sklearn_torch_gmm.rows.items import as_floats
from sklearn_torch_gmm.rows.source import Batch, Batches


def weights_of_rows(items: Sequence[Any], numbers: Sequence[int]) -> Tensor:
    """Return the weights ``[n]`` of pairs ``(row, weight)``; messages use the ``numbers``.

    Raises
    ------
    ValueError
        If an item is not a pair, or its weight is not finite or negative.
    """
    values = []
    for item, number in zip(items, numbers, strict=True):
        if not _is_pair(item):
            _raise_for_no_pair(item, f"item {number}")
        if np.ndim(item[1]) != 0:
            msg = f"The weight of sample {number} must be one number, got {item[1]!r}."
            raise ValueError(msg)
        values.append(item[1])
    are_tensors = all(isinstance(value, Tensor) for value in values)
    weights = as_floats(torch.stack(values) if are_tensors else np.array(values), "A weight")
    return _checked(weights.double(), lambda i: f"sample {numbers[i]}")


def weights_of_batch(item: Any, index: int, num_rows: int) -> Tensor:
    """Return the weights ``[n]`` of a pair ``(rows, weights)``; messages use the batch ``index``.

    Raises
    ------
    ValueError
        If the item is not a pair, or its weights are not ``num_rows`` finite nonnegative numbers.
    """
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        _raise_for_no_pair(item, f"batch {index}")
    weights = as_floats(item[1], "A weight").double()
    if weights.shape != (num_rows,):
        msg = (
            f"The weights of batch {index} have the shape {list(weights.shape)}; for its "
            f"{num_rows} samples it should be {[num_rows]}."
        )
        raise ValueError(msg)
    return _checked(weights, lambda i: f"sample {i} of batch {index}")


def _is_pair(item: Any) -> bool:
    # A tuple of two numbers may also be a sample.
    return isinstance(item, (tuple, list)) and len(item) == 2 and np.ndim(item[0]) > 0


def _raise_for_no_pair(item: Any, name: str) -> NoReturn:
    seen = type(item).__name__
    if isinstance(item, (tuple, list)):
        seen += f" of {len(item)}"
    msg = (
        "With sample_weight=True each item of a stream must be a pair (sample, weight), and each "
        f"batch of a DataLoader a pair (samples, weights): {name} is a {seen}."
    )
    raise ValueError(msg)


def _checked(weights: Tensor, name_of: Callable[[int], str]) -> Tensor:
    # Not `weights < 0`, which would let NaN pass.
    wrong = ~((weights >= 0) & weights.isfinite())
    if wrong.any():
        first = int(wrong.nonzero()[0])
        msg = (
            f"The weight of {name_of(first)} is {weights[first]:g}: weights must be finite and not "
            "negative."
        )
        raise ValueError(msg)
    return weights


class WeightedBatches(Batches):
    """Drops rows of weight zero from batches ``(rows [n, D], weights [n])``, unless ``keep_all``.

    Weights are divided by ``unit``.
    """

    def __init__(self, batches: Batches, unit: float = 1.0, *, keep_all: bool = False) -> None:
        self._batches = batches
        self._unit = unit
        self._keep_all = keep_all

    def __len__(self) -> int:
        # Like that of a loader, this raises a TypeError if the number of batches is unknown.
        return len(self._batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Batch]:
        return map(self._weigh, self._batches)

    def finite(self, *, allow_missing: bool = False) -> Iterator[Batch]:
        """Iterate over the batches, checked before rows of weight zero are dropped."""
        return map(self._weigh, self._batches.finite(allow_missing=allow_missing))

    def close(self) -> None:
        self._batches.close()

    def _weigh(self, batch: Batch) -> Batch:
        rows, weights = batch
        kept = weights > 0
        if not self._keep_all and not kept.all():
            rows, weights = rows[kept], weights[kept]
        return rows, weights if self._unit == 1.0 else weights / self._unit
