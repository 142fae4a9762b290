"""The end of EM: convergence, the limit of iterations, unexplained falls of the likelihood."""

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
    """Monitors the likelihood of the restarts of a fit, in arithmetic of type ``dtype``."""

    def __init__(self, settings: FitSettings, dtype: torch.dtype) -> None:
        self._settings = settings
        self._dtype = dtype
        self._tolerated = settings.tolerated_error(dtype)
        self._smallest_change = settings.loop.smallest_change
        self._is_all_fixed = settings.is_all_fixed
        self._last_step: tuple[MixtureParameters, Tensor] | None = None

    def continues(self, restart: Restart) -> bool:
        """Whether another iteration follows."""
        done, loop = len(restart.lower_bounds), self._settings.loop
        if restart.error is not None or (restart.converged and done >= loop.min_iter):
            return False
        return loop.max_iter is None or loop.max_iter < 0 or done < loop.max_iter

    def test(
        self, mixtures: Mixtures, bounds: Sequence[float], failures: Mapping[int, ValueError]
    ) -> list[int]:
        """Record the bounds of an iteration; return which of the R mixtures continue."""
        continuing = []
        for place, (index, bound) in enumerate(zip(mixtures.active, bounds, strict=True)):
            restart = mixtures.restarts[index]
            restart.error = failures.get(place)
            if restart.error is None:
                self._record(restart, bound)
            if self.continues(restart):
                continuing.append(place)
        return continuing

    def _record(self, restart: Restart, bound: float) -> None:
        settings = self._settings
        before = restart.lower_bounds or [settings.start.previous_lower_bound]
        change = bound - before[-1]
        restart.lower_bounds.append(bound)
        if settings.progress is not None:
            settings.progress.iteration(len(restart.lower_bounds), change)
        if not restart.is_extrapolated:
            # Only a plain step of EM indicates how far away its limit is.
            is_small = abs(change) < self._smallest_change
            restart.converged = is_small or self._is_all_fixed

    def record_falls(
        self, mixtures: Mixtures, bounds: Sequence[float], before: MixtureParameters
    ) -> None:
        """Record bounds that are less than the last ones, given parameters before the M-step."""
        if self._last_step is None:
            return
        last, counts = self._last_step
        explained: Tensor | None = None
        for place, (index, bound) in enumerate(zip(mixtures.active, bounds, strict=True)):
            restart = mixtures.restarts[index]
            fall = restart.lower_bound - bound
            if restart.fall or fall <= 0.0:
                # As nearly always.
                continue
            rounding = rounding_of_sums(bound, self._dtype, self._tolerated)
            if fall <= rounding:
                continue
            if explained is None:
                explained = explained_fall(last, before, counts, self._settings)
            if fall > explained[place].item() + rounding:
                restart.fall = [restart.lower_bound, bound]

    def remember_step(
        self,
        before: MixtureParameters,
        counts: Tensor,
        continuing: Sequence[int],
        rejected: Sequence[int],
    ) -> None:
        """Keep parameters before the M-step and its counts ``[R, K]``, which explain later falls.

        Only the mixtures that continue, given by their R places, are kept. The rejected ones
        continue from an earlier M-step.
        """
        if rejected:
            if self._last_step is None:
                # A checkpoint does not contain it.
                return
            last, last_counts = self._last_step
            index = torch.as_tensor(rejected, device=counts.device)
            before = before.replace_at(rejected, last.select(rejected))
            counts = counts.index_copy(0, index, last_counts[index])
        # Not `len(counts)`, which is written in Python.
        if 0 < len(continuing) < counts.shape[0]:
            before, counts = before.select(continuing), counts[list(continuing)]
        self._last_step = before, counts
