"""What datasets, streams and loaders give, as rows; and messages that say which row is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_torch_gmm.rows.tensors import as_tensor


def width_of_row(item: Any) -> int:
    """D, from the first item of a dataset or stream.

    Raises
    ------
    ValueError
        If the item is no row.
    """
    row = as_floats(_first_member(item))
    if row.ndim != 1 or row.shape[0] == 0:
        msg = (
            "A dataset's item must be a row of shape [D], or a tuple whose first member is one; "
            f"got shape {list(row.shape)}. For items that are batches of rows of shape [n, D], "
            "pass DataLoader(dataset, batch_size=None)."
        )
        raise ValueError(msg)
    return row.shape[0]


def stack_rows(items: Any, numbers: Sequence[int], num_features: int) -> Tensor:
    """Return items as rows ``[n, D]``.

    Parameters
    ----------
    items : sequence
        Rows or tuples whose first member is one; or all rows as one array or tensor.
    numbers : sequence of int
        What to call the rows in a message.
    num_features : int
        D.

    Raises
    ------
    ValueError
        If a row has another shape.
    """
    if isinstance(items, tuple) and len(items) > 0 and np.ndim(items[0]) == 2:
        items = items[0]
    if not isinstance(items, (np.ndarray, Tensor)):
        rows = [_first_member(item) for item in items]
        try:
            if all(isinstance(row, np.ndarray) for row in rows):
                items = np.stack(rows)
            else:
                items = torch.stack([as_floats(row) for row in rows])
        except (RuntimeError, ValueError):
            for number, row in zip(numbers, rows, strict=False):
                _check_shape(as_floats(row), (num_features,), f"Row {number}")
            raise
    stacked = as_floats(items)
    if stacked.ndim != 2 or stacked.shape[1] != num_features:
        _check_shape(stacked[0], (num_features,), f"Row {numbers[0]}")
    if stacked.shape[0] != len(numbers):
        msg = f"The dataset's __getitems__ gave {stacked.shape[0]} rows for {len(numbers)} indices."
        raise ValueError(msg)
    return stacked


def rows_of_batch(item: Any, index: int, num_features: int | None = None) -> Tensor:
    """Return what a loader gives as rows ``[n, D]``.

    Parameters
    ----------
    item : Tensor [n, D], or a tuple or list whose first member is one
    index : int
        What to call the batch in a message.
    num_features : int or None
        D, where it is known.

    Raises
    ------
    ValueError
        If the item is no batch of rows, or of another width.
    """
    member = item[0] if isinstance(item, (tuple, list)) and len(item) > 0 else item
    try:
        rows = as_floats(member)
    except ValueError:
        rows = torch.empty((), device="cpu")
    if rows.ndim != 2:
        seen = f"shape {list(rows.shape)}" if isinstance(member, Tensor) else repr(type(member))
        msg = (
            "A loader's batch must be rows of shape [n, D], or a tuple whose first member is; got "
            f"{seen} in batch {index}."
        )
        raise ValueError(msg)
    if num_features is not None:
        _check_shape(rows, (rows.shape[0], num_features), f"Batch {index}")
    return rows


def _first_member(item: Any) -> Any:
    """The row of an item: of a pair with a label, say; a row may itself be a list or a tuple."""
    has_members = isinstance(item, (tuple, list)) and len(item) > 0
    if has_members and isinstance(item[0], (np.ndarray, Tensor)) and item[0].ndim > 0:
        return item[0]
    if isinstance(item, tuple) and has_members and np.ndim(item[0]) > 0:
        return item[0]
    return item


def as_floats(values: Any, name: str = "A row") -> Tensor:
    """Return real numbers as a tensor of a floating-point type.

    Raises
    ------
    ValueError
        If they are none.
    """
    # NumPy's type for Python's numbers has their precision, torch's has not.
    if not isinstance(values, Tensor):
        array = np.asarray(values)
        if array.dtype.kind not in "fiub":
            msg = f"{name} must be real numbers, got {type(values).__name__} of type {array.dtype}."
            raise ValueError(msg)
        # torch has no type that is wider than float64.
        values = as_tensor(array if array.itemsize <= 8 else array.astype(np.float64))
    tensor: Tensor = values
    if tensor.is_complex():
        msg = f"{name} must be real numbers, got a tensor of complex numbers."
        raise ValueError(msg)
    if not tensor.is_floating_point():
        return tensor.double()
    # Answers have the type of the rows, and NumPy does not know all narrow types.
    return tensor.detach() if tensor.itemsize >= 4 else tensor.detach().float()


def _check_shape(values: Tensor, shape: tuple[int, ...], name: str) -> None:
    if tuple(values.shape) != shape:
        msg = (
            f"{name} has the shape {list(values.shape)}; with the {shape[-1]} features of the "
            f"first row it should be {list(shape)}."
        )
        raise ValueError(msg)
