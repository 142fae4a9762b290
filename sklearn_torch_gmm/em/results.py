"""The result of a fit, and the choice of the restart that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.em.restarts import Restart


@dataclass(frozen=True)
class FitResult:
    """The result of the best restart; the fields come from :class:`Restart`."""

    parameters: MixtureParameters
    """One mixture, ``[1, ...]``, in float64 on the CPU."""
    lower_bounds: list[float]
    converged: bool
    empty: list[int]
    fall: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, restart: Restart) -> FitResult:
        """Return the result of a fit that keeps this restart."""
        return cls(
            restart.parameters,
            restart.lower_bounds,
            restart.converged,
            sorted(restart.empty),
            restart.fall,
        )


def first_of_best(restarts: Sequence[Restart]) -> Restart:
    """Return the first restart whose likelihood is the largest up to rounding.

    Restarts often find the same mixture, with its components in different orders. The choice among
    them must not depend on the processor, the number of threads or the size of the batches.
    """
    largest = max(restart.lower_bound for restart in restarts)
    # A million terms summed in different orders differ by about eps times the root of a million,
    # 2e-13. Twice the bound would still tell any two mixtures apart that differ by more.
    least = largest - 1e-12 * max(1.0, abs(largest))
    return next(restart for restart in restarts if restart.lower_bound >= least)
