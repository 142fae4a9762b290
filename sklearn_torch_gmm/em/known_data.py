"""Facts about the data that earlier passes have collected."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass
class KnownData:
    """Facts about the data that are the same for all mixtures."""

    centre: Tensor
    """A point ``[D]`` near the middle."""
    max_deviations: Tensor
    """Maximum absolute deviations ``[D]`` from the centre, over the rows seen so far."""
    knows_all: bool = False
    """Whether the maximum absolute deviations are over all rows."""
    num_rows: float = math.inf
    """N; infinity if it is unknown."""
    scatter: Tensor | None = None
    """Σ (x − c)(x − c)ᵀ ``[1, D, D]`` over all rows, for structures that pool it."""
