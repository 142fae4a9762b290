"""Detection of data that are read in batches, and the choice of their source."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from sklearn_torch_gmm.rows.indexed import DatasetRows, StoreRows
from sklearn_torch_gmm.rows.sample_weight import come_with_rows, validate_weights, weighted_rows
from sklearn_torch_gmm.rows.source import RowSource
from sklearn_torch_gmm.rows.streams import LoaderRows, StreamRows
from sklearn_torch_gmm.rows.tensors import has_known_shape

_IN_MEMORY_ATTRIBUTES = ("__array_namespace__", "__dataframe__", "iloc")


def is_read_in_pieces(X: Any) -> bool:
    """Whether ``X`` is a dataset, a stream, a loader or a store, rather than data in memory."""
    return isinstance(X, (Dataset, DataLoader)) or _is_store(X)


def is_stream(X: Any) -> bool:
    """Whether the number of rows of ``X`` is unknown before all have been read."""
    return isinstance(X, (DataLoader, IterableDataset))


def source_of(X: Any, sample_weight: Any = None, *, keep_all: bool = False) -> RowSource:
    """Return the source of the rows of ``X``, with optional weights.

    Parameters
    ----------
    X : Dataset, DataLoader, or object with a shape that returns rows for a slice
    sample_weight : array-like of shape (N,) or True, default=None
        True: each item of a stream or a loader is a pair of rows and weights.
    keep_all : bool, default=False
        Whether rows of weight zero are kept if their weights come with them.

    Raises
    ------
    TypeError
        If ``X`` is an AnnData, which has several tables.
    ValueError
        If ``X`` is empty, if the rows differ in length, or if the weights do not match the rows in
        number or in the way they are given.
    """
    if is_stream(X):
        weighted = come_with_rows(sample_weight)
        if sample_weight is not None and not weighted:
            pair = "(samples, weights)" if isinstance(X, DataLoader) else "(sample, weight)"
            msg = (
                f"The weights of a {type(X).__name__} come with its samples: make each item a pair "
                f"{pair}, and pass sample_weight=True, not a {type(sample_weight).__name__}."
            )
            raise ValueError(msg)
        if isinstance(X, DataLoader):
            return LoaderRows(X, weighted=weighted, keep_all=keep_all)
        return StreamRows(X, weighted=weighted, keep_all=keep_all)
    if isinstance(X, Dataset):
        return DatasetRows(*weighted_rows(X, sample_weight))
    if hasattr(X, "obsm"):
        msg = (
            f"An {type(X).__name__} is not a single table of samples: pass adata.X, or one of "
            "adata.obsm, as adata.obsm['X_pca']."
        )
        raise TypeError(msg)
    if sample_weight is None:
        return StoreRows(X)
    weights = validate_weights(sample_weight, X.shape[0])
    return StoreRows(X, weights / weights[weights > 0].mean())


def _is_store(X: Any) -> bool:
    """Whether ``X`` is an array like those of h5py or zarr, which are read on demand."""
    if isinstance(X, np.memmap):
        # Integers are converted to floats, which should not all be in memory at once.
        return X.dtype.kind in "iub"
    if isinstance(X, (np.ndarray, np.generic, Tensor)) or hasattr(X, "tocsr"):
        return False
    is_array_like = hasattr(X, "shape") and hasattr(X, "__getitem__")
    if not is_array_like or any(hasattr(X, name) for name in _IN_MEMORY_ATTRIBUTES):
        return False
    return not hasattr(X, "__array__") or (hasattr(X, "chunks") and has_known_shape(X))
