"""What a fit has found, and which of its starts is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.em.restarts import Restart


@dataclass(frozen=True)
class FitResult:
    """The best of the starts.

    Attributes
    ----------
    parameters : MixtureParameters
        Of one mixture, ``[1, ...]``, float64, on the CPU.
    lower_bounds : list of float
        Mean log-likelihood before each M-step, in nats.
    converged : bool
    empty : list of int
        Components that lost all their rows.
    fall : list of float
        Two mean log-likelihoods of which the later one should not be less, or nothing.
    """

    parameters: MixtureParameters
    lower_bounds: list[float]
    converged: bool
    empty: list[int]
    fall: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, restart: Restart) -> FitResult:
        """Return what a fit that keeps this start has found."""
        return cls(
            restart.parameters,
            restart.lower_bounds,
            restart.converged,
            sorted(restart.empty),
            restart.fall,
        )


def first_of_best(restarts: Sequence[Restart]) -> Restart:
    """The likeliest; of those that differ by rounding only, the first.

    Starts often find one mixture, with its components in different orders. Which of them is kept
    shall not depend on the processor, the number of threads or the size of the batches.
    """
    largest = max(restart.lower_bound for restart in restarts)
    least = largest - 1e-12 * max(1.0, abs(largest))
    return next(restart for restart in restarts if restart.lower_bound >= least)
