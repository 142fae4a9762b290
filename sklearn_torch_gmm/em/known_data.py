"""What the passes over the data have found out about them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class KnownData:
    """What all mixtures know of the data that they are fitted to.

    Attributes
    ----------
    centre : Tensor [D]
        A point near the middle.
    extents : Tensor [D]
        Distances from it that rows are known to reach in each feature.
    knows_all : bool
        Whether the extents are those of all rows.
    scatter : Tensor [1, D, D] or None
        Σ (x − c)(x − c)ᵀ over all rows, for structures that share it.
    """

    centre: Tensor
    extents: Tensor
    knows_all: bool = False
    scatter: Tensor | None = None
