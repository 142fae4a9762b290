"""Weights that come with the rows: the second member of each pair that a stream or a loader gives.

A second member is commonly a label. It is taken for a weight only where the user has said so, and
then every item has to be a pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_torch_gmm.rows.items import as_floats
from sklearn_torch_gmm.rows.source import Batch, Batches


def weights_of_rows(items: Sequence[Any], numbers: Sequence[int]) -> Tensor:
    """Weights ``[n]`` of pairs ``(row, weight)``.

    Parameters
    ----------
    items : sequence
    numbers : sequence of int
        What to call the rows in a message.

    Raises
    ------
    ValueError
        If an item is no pair, or its weight is not a finite number that is not negative.
    """
    members = [
        item[1] if _is_pair(item) else _raise_for_no_pair(item, f"item {number}")
        for item, number in zip(items, numbers, strict=True)
    ]
    for member, number in zip(members, numbers, strict=True):
        if np.ndim(member) != 0:
            msg = f"The weight of row {number} must be one number, got {member!r}."
            raise ValueError(msg)
    are_tensors = all(isinstance(member, Tensor) for member in members)
    weights = as_floats(torch.stack(members) if are_tensors else np.array(members), "A weight")
    return _checked(weights.double(), lambda i: f"row {numbers[i]}")


def weights_of_batch(item: Any, index: int, num_rows: int) -> Tensor:
    """Weights ``[n]`` of a pair ``(rows, weights)``.

    Parameters
    ----------
    item : object
        What the loader gave.
    index : int
        What to call the batch in a message.
    num_rows : int
        n.

    Raises
    ------
    ValueError
        If the item is no pair, or its second member no finite weights that are not negative.
    """
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        _raise_for_no_pair(item, f"batch {index}")
    weights = as_floats(item[1], "A weight").double()
    if weights.shape != (num_rows,):
        msg = (
            f"The weights of batch {index} have the shape {list(weights.shape)}; for its "
            f"{num_rows} rows it should be {[num_rows]}."
        )
        raise ValueError(msg)
    return _checked(weights, lambda i: f"row {i} of batch {index}")


def _is_pair(item: Any) -> bool:
    # A row of two numbers may be a tuple, too.
    return isinstance(item, (tuple, list)) and len(item) == 2 and np.ndim(item[0]) > 0


def _raise_for_no_pair(item: Any, name: str) -> Any:
    seen = f"{type(item).__name__}"
    if isinstance(item, (tuple, list)):
        seen += f" of {len(item)}"
    msg = (
        "With sample_weight=True each item of a stream must be a pair (row, weight), and each "
        f"batch of a DataLoader a pair (rows, weights): {name} is a {seen}."
    )
    raise ValueError(msg)


def _checked(weights: Tensor, name_of: Callable[[int], str]) -> Tensor:
    # Not "less than zero": what is not a number is no weight either.
    wrong = ~((weights >= 0) & weights.isfinite())
    if wrong.any():
        first = int(wrong.nonzero()[0])
        msg = (
            f"The weight of {name_of(first)} is {weights[first]:g}: weights must be finite and not "
            "negative."
        )
        raise ValueError(msg)
    return weights


class WeighedBatches(Batches):
    """The rows of weight in batches, and their weights in a unit.

    Parameters
    ----------
    batches : Batches
        Of ``(rows [n, D], weights [n])``.
    unit : float, default=1.0
    keep_all : bool, default=False
        Whether rows of weight zero stay where they are.
    """

    def __init__(self, batches: Batches, unit: float = 1.0, *, keep_all: bool = False) -> None:
        self._batches = batches
        self._unit = unit
        self._keep_all = keep_all

    def __len__(self) -> int:
        # As a loader does: a TypeError where the number of batches is not known.
        return len(self._batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Batch]:
        return map(self._weigh, self._batches)

    def finite(self) -> Iterator[Batch]:
        """Batches that were looked at before rows without weight were dropped."""
        return map(self._weigh, self._batches.finite())

    def close(self) -> None:
        self._batches.close()

    def _weigh(self, batch: Batch) -> Batch:
        rows, weights = batch
        kept = weights > 0
        if not self._keep_all and not kept.all():
            rows, weights = rows[kept], weights[kept]
        return rows, weights if self._unit == 1.0 else weights / self._unit
