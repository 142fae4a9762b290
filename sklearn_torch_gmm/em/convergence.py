"""Whether the restarts of a fit go on: bounds, the test of convergence, falls of the likelihood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.em.mixtures import Mixtures
from sklearn_torch_gmm.em.monotonicity import explained_fall, rounding_of_sums
from sklearn_torch_gmm.em.restarts import Restart
from sklearn_torch_gmm.em.settings import FitSettings


class Convergence:
    """Follows the likelihood of the restarts of a fit.

    Parameters
    ----------
    settings : FitSettings
    dtype : torch.dtype
        Of the arithmetic.
    """

    def __init__(self, settings: FitSettings, dtype: torch.dtype) -> None:
        self._settings = settings
        self._dtype = dtype
        self._last_step: tuple[MixtureParameters, Tensor] | None = None

    def goes_on(self, restart: Restart) -> bool:
        """Whether another iteration follows."""
        done, loop = len(restart.lower_bounds), self._settings.loop
        if restart.error is not None or (restart.converged and done >= loop.min_iter):
            return False
        return loop.max_iter is None or loop.max_iter < 0 or done < loop.max_iter

    def test(
        self, mixtures: Mixtures, bounds: Sequence[float], failures: Mapping[int, ValueError]
    ) -> list[int]:
        """Note the bounds of an iteration, and return the places of the R mixtures that go on."""
        going_on = []
        for place, (index, bound) in enumerate(zip(mixtures.active, bounds, strict=True)):
            restart = mixtures.restarts[index]
            restart.error = failures.get(place)
            if restart.error is None:
                self._note(restart, bound)
            if self.goes_on(restart):
                going_on.append(place)
        return going_on

    def _note(self, restart: Restart, bound: float) -> None:
        settings = self._settings
        before = restart.lower_bounds or [settings.start.previous_lower_bound]
        change = bound - before[-1]
        restart.lower_bounds.append(bound)
        if settings.progress is not None:
            settings.progress.iteration(len(restart.lower_bounds), change)
        restart.converged = abs(change) < settings.loop.tolerance or settings.is_all_fixed

    def note_falls(
        self, mixtures: Mixtures, bounds: Sequence[float], before: MixtureParameters
    ) -> None:
        """Look for bounds, which are those before the M-step, that are less than the last ones."""
        if self._last_step is None:
            return
        last, counts = self._last_step
        explained: Tensor | None = None
        for place, (index, bound) in enumerate(zip(mixtures.active, bounds, strict=True)):
            restart = mixtures.restarts[index]
            fall = restart.lower_bound - bound
            if restart.fall or fall <= rounding_of_sums(bound, self._dtype):
                continue
            if explained is None:
                explained = explained_fall(last, before, counts, self._settings)
            if fall > explained[place].item() + rounding_of_sums(bound, self._dtype):
                restart.fall = [restart.lower_bound, bound]

    def remember_step(
        self, before: MixtureParameters, counts: Tensor, going_on: Sequence[int]
    ) -> None:
        """Keep what the next falls are explained by, of the mixtures that go on.

        Parameters
        ----------
        before : MixtureParameters
            Of R mixtures, before the M-step.
        counts : Tensor [R, K]
            From which the step came.
        going_on : sequence of int
            Some of the R places.
        """
        if 0 < len(going_on) < len(counts):
            before, counts = before.select(going_on), counts[list(going_on)]
        self._last_step = before, counts
