"""Data that is read piece by piece: which it is, and what reads it."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from sklearn_torch_gmm.rows.indexed import DatasetRows, StoreRows
from sklearn_torch_gmm.rows.sample_weight import come_with_rows, validate_weights, weighted_subset
from sklearn_torch_gmm.rows.source import RowSource
from sklearn_torch_gmm.rows.streams import LoaderRows, StreamRows
from sklearn_torch_gmm.rows.tensors import has_known_shape

_ARE_IN_MEMORY = ("__array_namespace__", "__dataframe__", "iloc")


def is_read_in_pieces(X: Any) -> bool:
    """Whether ``X`` is anything but rows in memory: a dataset, a stream, a loader or a store."""
    return isinstance(X, (Dataset, DataLoader)) or _is_store(X)


def is_stream(X: Any) -> bool:
    """Whether only reading all of ``X`` tells the number of its rows."""
    return isinstance(X, (DataLoader, IterableDataset))


def source_of(X: Any, sample_weight: Any = None, *, keep_all: bool = False) -> RowSource:
    """Return what reads the rows of ``X``, with their weights if there are any.

    Parameters
    ----------
    X : Dataset, DataLoader, or object with a shape that gives rows for a slice
    sample_weight : array-like of shape (N,) or True, default=None
        True: each item of a stream or a loader is a pair of rows and weights.
    keep_all : bool, default=False
        Whether rows of weight zero stay where they are.

    Raises
    ------
    ValueError
        If there are no rows, if they are not of one width, or if weights are not one for each; if
        weights come in another way than the data can have them.
    """
    if is_stream(X):
        weighted = come_with_rows(sample_weight)
        if sample_weight is not None and not weighted:
            pair = "(rows, weights)" if isinstance(X, DataLoader) else "(row, weight)"
            msg = (
                f"The weights of a {type(X).__name__} come with its rows: let each item be a pair "
                f"{pair}, and pass sample_weight=True, not a {type(sample_weight).__name__}."
            )
            raise ValueError(msg)
        if isinstance(X, DataLoader):
            return LoaderRows(X, weighted=weighted, keep_all=keep_all)
        return StreamRows(X, weighted=weighted, keep_all=keep_all)
    if isinstance(X, Dataset):
        return DatasetRows(*weighted_subset(X, sample_weight, keep_all=keep_all))
    if sample_weight is None:
        return StoreRows(X)
    weights = validate_weights(sample_weight, X.shape[0])
    return StoreRows(X, weights / weights[weights > 0].mean(), keep_all=keep_all)


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
    if not hasattr(X, "__array__"):
        return True
    return hasattr(X, "chunks") and has_known_shape(X)
