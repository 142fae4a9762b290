"""Data that is read piece by piece: which it is, and what reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from sklearn_torch_gmm._validation import validate_weights, weighted_subset

if TYPE_CHECKING:
    from sklearn_torch_gmm.training.data import RowSource

_ARE_IN_MEMORY = ("__array_namespace__", "__dataframe__", "iloc")


def is_read_in_pieces(X: Any) -> bool:
    """Whether ``X`` is anything but rows in memory: a dataset, a stream, a loader or a store."""
    return isinstance(X, (Dataset, DataLoader)) or _is_store(X)


def source_of(X: Any, sample_weight: Any = None, *, keep_all: bool = False) -> RowSource:
    """Return what reads the rows of ``X``, with their weights if there are any.

    Parameters
    ----------
    X : Dataset, DataLoader, or object with a shape that gives rows for a slice
    sample_weight : array-like of shape (N,), default=None
    keep_all : bool, default=False
        Whether rows of weight zero stay where they are.

    Raises
    ------
    ValueError
        If there are no rows, if they are not of one width, or if weights are not one for each.
    """
    from sklearn_torch_gmm.training.datasets import DatasetRows, StoreRows
    from sklearn_torch_gmm.training.streams import LoaderRows, StreamRows

    if isinstance(X, (DataLoader, IterableDataset)):
        if sample_weight is not None:
            msg = (
                "sample_weight is for rows whose number is known: pass an array, a tensor or a "
                f"Dataset with a length, not a {type(X).__name__}."
            )
            raise ValueError(msg)
        return LoaderRows(X) if isinstance(X, DataLoader) else StreamRows(X)
    if isinstance(X, Dataset):
        return DatasetRows(*weighted_subset(X, sample_weight, keep_all=keep_all))
    if sample_weight is None:
        return StoreRows(X)
    weights = validate_weights(sample_weight, X.shape[0])
    return StoreRows(X, weights / weights[weights > 0].mean())


def _is_store(X: Any) -> bool:
    """Whether ``X`` is like an array of h5py or zarr: rows are read when they are asked for."""
    if isinstance(X, np.memmap):
        # Integers are turned into floating-point numbers, which have to be kept somewhere.
        return X.dtype.kind in "iub"
    if isinstance(X, (np.ndarray, np.generic, Tensor)) or hasattr(X, "tocsr"):
        return False
    if not hasattr(X, "shape") or not hasattr(X, "__getitem__"):
        return False
    if any(hasattr(X, name) for name in _ARE_IN_MEMORY):
        return False
    return hasattr(X, "chunks") or not hasattr(X, "__array__")
