"""What the host reads of an iteration: one vector from the device, and its parts by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class StepReport:
    """An M-step in R numbers of each kind, one for each mixture.

    Attributes
    ----------
    bounds : sequence of float
        Mean log-likelihood before the step, in nats.
    errors : sequence of float
        Rounding error that the fast E-step may have, in nats: before the step if rows were seen for
        the first time, and after it.
    drifts : sequence of float
        Relative rounding error of the new covariances after an exact E-step; otherwise `errors`.
    usable : sequence of float
        1 where all covariances are positive definite.
    fewest : sequence of float
        Weight of the component that has the least, in rows.
    """

    bounds: Sequence[float]
    errors: Sequence[float]
    drifts: Sequence[float]
    usable: Sequence[float]
    fewest: Sequence[float]

    @staticmethod
    def pack(
        bounds: Tensor, errors: Tensor, drifts: Tensor, usable: Tensor, fewest: Tensor
    ) -> Tensor:
        """Join tensors ``[R]`` to one vector, which the device hands over at once."""
        return torch.cat([bounds, errors, drifts, usable, fewest])

    @classmethod
    def unpack(cls, numbers: Sequence[float]) -> StepReport:
        """Return the inverse of :meth:`pack`, on the host."""
        return cls(*_equal_parts(numbers, 5))


@dataclass(frozen=True)
class ScoreReport:
    """Scores of R mixtures under parameters that change no more.

    Attributes
    ----------
    log_likelihoods, certainties : sequence of float
        Means over the rows of log p(x) and of log max_k r_k, in nats.
    """

    log_likelihoods: Sequence[float]
    certainties: Sequence[float]

    @staticmethod
    def pack(log_likelihoods: Tensor, certainties: Tensor) -> Tensor:
        """Join tensors ``[R]`` to one vector."""
        return torch.cat([log_likelihoods, certainties])

    @classmethod
    def unpack(cls, numbers: Sequence[float]) -> ScoreReport:
        """Return the inverse of :meth:`pack`, on the host."""
        return cls(*_equal_parts(numbers, 2))


def _equal_parts(numbers: Sequence[float], count: int) -> list[Sequence[float]]:
    size = len(numbers) // count
    return [numbers[first : first + size] for first in range(0, len(numbers), size)]
