"""The numbers of an M-step that the host reads, in one transfer from the device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class StepReport(NamedTuple):
    """R numbers of each kind about an M-step, one for each mixture."""

    bounds: Sequence[float]
    """Mean log-likelihood before the step, in nats."""
    errors: Sequence[float]
    """Bound on the rounding error of the fast E-step, in nats: after the step and, if rows were
    seen for the first time, also before it."""
    drifts: Sequence[float]
    """Relative rounding error of the new covariances after an exact E-step; otherwise `errors`."""
    usable: Sequence[float]
    """1 where all covariances are positive definite."""
    fewest: Sequence[float]
    """Smallest weight of a component, in rows."""

    def with_flawless(self, places: Sequence[int], bounds: Sequence[float]) -> StepReport:
        """Return the report with flawless steps for these of the R mixtures, and their bounds."""
        columns = [list(numbers) for numbers in self]
        for place, bound in zip(places, bounds, strict=True):
            # In the order of the fields.
            for column, number in zip(columns, (bound, 0.0, 0.0, 1.0, math.inf), strict=True):
                column[place] = number
        return StepReport(*columns)

    @staticmethod
    def pack(
        bounds: Tensor, errors: Tensor, drifts: Tensor, usable: Tensor, fewest: Tensor
    ) -> Tensor:
        """Return the fields, tensors ``[R]`` of one type, as the vector for :meth:`unpack`."""
        return torch.cat([bounds, errors, drifts, usable, fewest])

    @classmethod
    def unpack(cls, numbers: Sequence[float]) -> StepReport:
        """Return the parts of a vector that holds all R numbers of each kind in turn."""
        size = len(numbers) // len(cls._fields)
        return cls(*[numbers[first : first + size] for first in range(0, len(numbers), size)])
