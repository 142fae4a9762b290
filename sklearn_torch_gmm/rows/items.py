"""Conversion of items of datasets, streams and loaders to rows; messages name the sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_torch_gmm.rows.tensors import as_tensor


def first_row(item: Any) -> Any:
    """Return the row of the first item of a dataset or stream, or raise ValueError."""
    values = _row_of(item)
    row = as_floats(values)
    if row.ndim != 1 or row.shape[0] == 0:
        msg = (
            "An item of a dataset must be a sample of shape [D], or a tuple that begins with one; "
            f"got shape {list(row.shape)}. For items that are batches of shape [n, D], "
            "pass DataLoader(dataset, batch_size=None)."
        )
        raise ValueError(msg)
    return values


def stack_rows(items: Any, numbers: Sequence[int], num_features: int) -> Tensor:
    """Return items as rows ``[n, D]``; messages use their ``numbers``.

    The items are rows or tuples that begin with one, or all rows as one array or tensor.

    Raises
    ------
    ValueError
        If a row has another shape.
    """
    if isinstance(items, tuple) and len(items) > 0 and np.ndim(items[0]) == 2:
        items = items[0]
    if not isinstance(items, (np.ndarray, Tensor)):
        rows = [_row_of(item) for item in items]
        try:
            if all(isinstance(row, np.ndarray) for row in rows):
                items = np.stack(rows)
            else:
                items = torch.stack([as_floats(row) for row in rows])
        except (RuntimeError, ValueError):
            for number, row in zip(numbers, rows, strict=False):
                _check_shape(as_floats(row), (num_features,), f"Sample {number}")
            raise
    stacked = as_floats(items)
    if stacked.ndim != 2 or stacked.shape[1] != num_features:
        _check_shape(stacked[0], (num_features,), f"Sample {numbers[0]}")
    if stacked.shape[0] != len(numbers):
        found = stacked.shape[0]
        msg = f"The dataset's __getitems__ gave {found} samples for {len(numbers)} indices."
        raise ValueError(msg)
    return stacked


def values_of_batch(item: Any) -> Any:
    """Return the rows of a loader's item, such as a pair with labels, unchanged."""
    return item[0] if isinstance(item, (tuple, list)) and len(item) > 0 else item


def rows_of_batch(item: Any, index: int, num_features: int | None = None) -> Tensor:
    """Return a loader's item as rows ``[n, D]``; messages use the batch ``index``.

    Raises
    ------
    ValueError
        If the item is not a batch of rows, or if D is given and different.
    """
    values = values_of_batch(item)
    try:
        rows = as_floats(values)
    except ValueError:
        rows = torch.empty((), device="cpu")
    if rows.ndim != 2:
        seen = f"shape {list(rows.shape)}" if isinstance(values, Tensor) else repr(type(values))
        msg = (
            "A batch of a DataLoader must have the shape [n, D], or be a tuple that begins with an "
            f"array of this shape; got {seen} in batch {index}."
        )
        raise ValueError(msg)
    if num_features is not None:
        _check_shape(rows, (rows.shape[0], num_features), f"Batch {index}")
    return rows


def _row_of(item: Any) -> Any:
    """Return the row of an item, such as a pair with a label; a row may also be a list."""
    if not isinstance(item, (tuple, list)) or len(item) == 0:
        return item
    first = item[0]
    is_array = isinstance(first, (np.ndarray, Tensor))
    begins_with_row = (is_array or isinstance(item, tuple)) and np.ndim(first) > 0
    return first if begins_with_row else item


def as_floats(values: Any, name: str = "A sample") -> Tensor:
    """Return real numbers as a floating-point tensor, or raise ValueError or TypeError."""
    if isinstance(values, Mapping):
        keys = ", ".join(map(repr, values))
        msg = (
            f"{name} must be real numbers, got a {type(values).__name__} with the keys {keys}: "
            "pass a dataset whose items are the values of one of them, or a DataLoader with a "
            "collate_fn that selects it."
        )
        raise TypeError(msg)
    # NumPy keeps the precision of Python's numbers, torch would convert them to float32.
    if not isinstance(values, Tensor):
        array = np.asarray(values)
        if array.dtype.kind not in "fiub":
            msg = f"{name} must be real numbers, got {type(values).__name__} of type {array.dtype}."
            raise ValueError(msg)
        # torch does not support types wider than float64.
        values = as_tensor(array if array.itemsize <= 8 else array.astype(np.float64))
    tensor: Tensor = values
    if tensor.is_complex():
        msg = f"{name} must be real numbers, got a tensor of complex numbers."
        raise ValueError(msg)
    if not tensor.is_floating_point():
        return tensor.double()
    # Results have the type of the rows, and NumPy does not support all narrow types.
    return tensor.detach() if tensor.itemsize >= 4 else tensor.detach().float()


def _check_shape(values: Tensor, shape: tuple[int, ...], name: str) -> None:
    if tuple(values.shape) != shape:
        msg = (
            f"{name} has the shape {list(values.shape)}; with the {shape[-1]} features of the "
            f"first sample it should be {list(shape)}."
        )
        raise ValueError(msg)
