"""Objects that hold samples but are not a table of them: a path, an archive, a list of tables.

NumPy would make an object of each that has no rows, and say that it is not a number.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

_MOST_SHOWN = 5
"""Keys and shapes that a message lists; an archive may have thousands."""


def refuse_what_is_not_a_table(X: Any) -> None:
    """Raise TypeError, with what to pass, for a path, file, mapping, iterator or list of tables."""
    msg = _advice(X)
    if msg is not None:
        raise TypeError(msg)


def _advice(X: Any) -> str | None:
    kind = type(X).__name__
    if isinstance(X, (str, bytes, os.PathLike)):
        return f"X is the path {os.fspath(X)!r}, not an array of samples: load or map the file."
    if isinstance(X, (list, tuple)):
        if len(X) == 0 or getattr(X[0], "ndim", None) != 2:
            return None
        shapes = _some(f"{tuple(np.shape(part))}" for part in X)
        return (
            f"X is a {kind} of arrays, of shapes {shapes}: pass one of them, or join them, as "
            "np.concatenate and torch.cat do."
        )
    if hasattr(X, "shape"):
        return None
    if hasattr(X, "keys"):
        return f"X is a {kind} with the keys {_some(map(repr, X.keys()))}: pass one of its arrays."
    if hasattr(X, "read"):
        return f"X is an open file ({kind}), not an array of samples: load or map the file."
    if isinstance(X, Iterator):
        return (
            f"X is a {kind}, which can be read only once, but EM reads the samples in each "
            "iteration: pass an array, or an IterableDataset whose __iter__ starts over."
        )
    return None


def _some(texts: Any) -> str:
    shown = list(islice(texts, _MOST_SHOWN + 1))
    return ", ".join(shown[:_MOST_SHOWN] + ["..."] * (len(shown) > _MOST_SHOWN)) or "of nothing"
