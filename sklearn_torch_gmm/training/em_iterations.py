"""EM for several mixtures at once, iteration by iteration, without the machinery around it."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sklearn_torch_gmm.core.device import arithmetic_dtype
from sklearn_torch_gmm.core.e_step import EStep, ExactEStep, FastEStep
from sklearn_torch_gmm.core.em import (
    TOLERATED_ERROR,
    cancellation,
    cancellation_of_moments,
    m_step,
)
from sklearn_torch_gmm.core.fixed import keep_parts
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.workspace import Workspace, is_wide
from sklearn_torch_gmm.exceptions import NonFiniteLikelihoodError
from sklearn_torch_gmm.training.failures import check_usable
from sklearn_torch_gmm.training.monotonicity import explained_fall, rounding_of_sums
from sklearn_torch_gmm.training.settings import FitSettings
from sklearn_torch_gmm.training.starts import Starts


@dataclass
class Restart:
    """What became of one start.

    Attributes
    ----------
    parameters : MixtureParameters
        Of one mixture, ``[1, ...]``; after the last M-step.
    lower_bounds : list of float
        Mean log-likelihood before each M-step, in nats.
    converged : bool
    empty : set of int
        Components that lost all their rows.
    fall : list of float
        The first two mean log-likelihoods of which the later one is less by more than rounding and
        regularization explain; empty if there are none.
    """

    parameters: MixtureParameters
    lower_bounds: list[float] = field(default_factory=list)
    converged: bool = False
    empty: set[int] = field(default_factory=set)
    fall: list[float] = field(default_factory=list)

    @property
    def lower_bound(self) -> float:
        """The last mean log-likelihood; minus infinity before the first iteration."""
        return self.lower_bounds[-1] if self.lower_bounds else -math.inf


class Outcome(enum.Enum):
    """What an iteration led to."""

    GOES_ON = enum.auto()
    FINISHED = enum.auto()
    """All mixtures have converged."""
    REPEAT = enum.auto()
    """The pass has turned out to have lost digits: the iteration is to be done again, exactly."""


class EMIterations:
    """The state of R mixtures between the passes over the data.

    A converged mixture takes no part in later passes.

    Parameters
    ----------
    starts : Starts
    settings : FitSettings
    device : torch.device
        Where the sums are kept.

    Attributes
    ----------
    restarts : list of Restart
    latest_bound : float
        The best mean log-likelihood, in nats, that the last pass over the data found.
    """

    def __init__(self, starts: Starts, settings: FitSettings, device: torch.device) -> None:
        dtype = arithmetic_dtype(device, settings.trainer_params.get("precision"))
        self.restarts = [Restart(start) for start in starts.parameters]
        self._settings = settings
        self._structure = settings.structure
        self._workspace = Workspace(dtype, device)
        self._active = list(range(len(self.restarts)))
        self._centre = starts.centre.to(device, dtype)
        self._extents = starts.extents.to(device, dtype)
        self._knows_extents = False
        self._scatter: Tensor | None = None
        self._about: Tensor | None = None
        self._last_step: tuple[MixtureParameters, Tensor] | None = None
        self.latest_bound = -math.inf
        self._is_wide = is_wide(1 + self._structure.num_moments(self._centre.shape[0]))
        self._e_step: EStep
        self._go_on_from(MixtureParameters.stack(starts.parameters).to(device, dtype))
        self._needs_exact = not self._is_safe(self._error_bound().item())

    def begin(self) -> None:
        """Begin an iteration."""
        if self._needs_exact:
            self._e_step = ExactEStep(
                self._parameters,
                self._centre,
                self._structure,
                self._workspace,
                about=self._about,
            )
        else:
            self._e_step = FastEStep(
                self._parameters,
                self._centre,
                self._structure,
                self._workspace,
                natural=self._natural,
                extents=None if self._knows_extents else self._extents,
                scatter=self._scatter,
            )

    def add(self, rows: Tensor, sample_weight: Tensor | None = None) -> None:
        """Add ``rows [N, D]`` with weights ``[N]`` to the moments of the iteration."""
        self._e_step.add(rows, sample_weight)

    def end(self, over_processes: Callable[[Tensor, str], None] | None = None) -> Outcome:
        """Do the M-step and test each mixture for convergence.

        Parameters
        ----------
        over_processes : callable or None
            ``over_processes(values, how)`` replaces the values of this process by their "sum" or
            "max" over all of them.

        Raises
        ------
        IllDefinedCovarianceError
            If a covariance is not positive definite after regularization.
        NonFiniteLikelihoodError
            If a log-likelihood is not finite.
        """
        moments = self._e_step.moments
        if over_processes is not None:
            moments = self._reduce(moments, over_processes)
        bounds = self._e_step.log_likelihood(moments) / moments.counts.sum(-1)
        before = self._parameters
        result = m_step(
            moments,
            self._e_step.centre,
            before.means,
            self._structure,
            self._settings.regularization,
            keep_rounding=self._settings.keep_rounding,
        )
        if self._settings.fixed:
            result = keep_parts(result, before, self._settings.fixed, self._structure)
        errors = []
        if not self._needs_exact and not self._knows_extents:
            errors.append(self._error_bound())
        self._go_on_from(result.parameters)
        errors.append(self._error_bound())
        drift = bounds.new_zeros(())
        if self._needs_exact:
            drift = cancellation_of_moments(result.parameters, self._e_step.centre, self._structure)

        # The one transfer of an iteration from the device to the host.
        *lower_bounds, error, drift_error, all_usable, any_empty = torch.cat(
            [
                bounds,
                torch.stack(errors).amax().unsqueeze(0),
                drift.unsqueeze(0),
                result.usable.all().unsqueeze(0),
                result.empty.any().unsqueeze(0),
            ]
        ).tolist()
        self.latest_bound = max(lower_bounds)
        if not self._needs_exact:
            if not self._is_safe(error):
                self._needs_exact = True
                self._go_on_from(before)
                return Outcome.REPEAT
            self._knows_extents = True
            self._scatter = moments.scatter
        elif self._about is None and not self._is_safe(drift_error):
            # Moments about the means that this pass has found have the digits that it lost.
            self._about = result.parameters.means
            self._go_on_from(before)
            return Outcome.REPEAT
        self._about = None
        self._check_likelihood(lower_bounds)
        self._remember_falls(lower_bounds, before)
        self._last_step = before, moments.counts
        if not all_usable or any_empty:
            check_usable(result, self._settings)
            self._remember_empty(result.empty)
        self._needs_exact = not self._is_safe(error)
        return self._finish(lower_bounds)

    def results(self) -> list[Restart]:
        """What became of the starts, in float64 on the CPU."""
        for position, index in enumerate(self._active):
            self.restarts[index].parameters = self._parameters.select([position])
        for restart in self.restarts:
            restart.parameters = restart.parameters.to("cpu", torch.float64)
        return self.restarts

    # -- one iteration ----------------------------------------------------------------------------

    def _go_on_from(self, parameters: MixtureParameters) -> None:
        self._parameters = parameters
        if self._is_wide:
            # As many numbers as parameters, which only the fast E-step needs.
            return
        self._natural = self._structure.natural_parameters(
            parameters.weights, parameters.means - self._centre, parameters.precisions_cholesky
        )

    def _error_bound(self) -> Tensor:
        if self._is_wide:
            return self._extents.new_tensor(math.inf)
        return cancellation(self._natural, self._extents, self._structure)

    def _is_safe(self, error: float) -> bool:
        # Not "greater than": a bound that is not a number is not safe either.
        return error <= TOLERATED_ERROR[self._centre.dtype]

    def _reduce(self, moments: Moments, over_processes: Callable[[Tensor, str], None]) -> Moments:
        scatter_is_new = self._needs_exact or self._scatter is None
        packed = moments.pack(with_scatter=scatter_is_new)
        over_processes(packed, "sum")
        if not self._needs_exact and not self._knows_extents:
            over_processes(self._extents, "max")
        return moments.unpack(packed)

    def _check_likelihood(self, lower_bounds: Sequence[float]) -> None:
        if not all(map(math.isfinite, lower_bounds)):
            msg = (
                f"The mean log-likelihood became {min(lower_bounds)}: some rows are so far from "
                "all components that their density cannot be represented. Scale the data, or "
                "start from means inside of them."
            )
            raise NonFiniteLikelihoodError(msg)

    def _remember_empty(self, empty: Tensor) -> None:
        for position, component in empty.nonzero().tolist():
            self.restarts[self._active[position]].empty.add(component)

    def _remember_falls(self, lower_bounds: Sequence[float], parameters: MixtureParameters) -> None:
        """Look for likelihoods, which are those of ``parameters``, that are less than the last."""
        if self._last_step is None:
            return
        before, counts = self._last_step
        dtype = self._centre.dtype
        explained: Tensor | None = None
        for position, bound in enumerate(lower_bounds):
            restart = self.restarts[self._active[position]]
            fall = restart.lower_bound - bound
            if restart.fall or fall <= rounding_of_sums(bound, dtype):
                continue
            if explained is None:
                explained = explained_fall(before, parameters, counts, self._settings)
            if fall > explained[position].item() + rounding_of_sums(bound, dtype):
                restart.fall = [restart.lower_bound, bound]

    def _finish(self, lower_bounds: Sequence[float]) -> Outcome:
        settings = self._settings
        going_on = []
        for position, bound in enumerate(lower_bounds):
            restart = self.restarts[self._active[position]]
            before = restart.lower_bounds or [settings.start.previous_lower_bound]
            change = bound - before[-1]
            restart.lower_bounds.append(bound)
            if settings.progress is not None:
                settings.progress.iteration(len(restart.lower_bounds), change)
            restart.converged = abs(change) < settings.tolerance or settings.is_all_fixed
            if not restart.converged:
                going_on.append(position)
        if not going_on:
            return Outcome.FINISHED
        if len(going_on) < len(self._active):
            self._retire(going_on)
        return Outcome.GOES_ON

    def _retire(self, going_on: Sequence[int]) -> None:
        """Take the mixtures at all other positions out of the passes to come."""
        for position, index in enumerate(self._active):
            if position not in going_on:
                self.restarts[index].parameters = self._parameters.select([position])
        self._active = [self._active[position] for position in going_on]
        assert self._last_step is not None
        before, counts = self._last_step
        self._last_step = before.select(going_on), counts[list(going_on)]
        self._go_on_from(self._parameters.select(going_on))

    # -- for checkpoints and other processes ------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that goes on from iteration to iteration: tensors and plain values."""
        return {
            "active": self._active,
            "parameters": self._parameters.tensors(),
            "centre": self._centre,
            "extents": self._extents,
            "knows_extents": self._knows_extents,
            "scatter": self._scatter,
            "needs_exact": self._needs_exact,
            "restarts": [
                {
                    "parameters": restart.parameters.tensors(),
                    "lower_bounds": restart.lower_bounds,
                    "converged": restart.converged,
                    "empty": sorted(restart.empty),
                    "fall": restart.fall,
                }
                for restart in self.restarts
            ],
        }

    @classmethod
    def from_state(
        cls, state: dict[str, Any], settings: FitSettings, device: torch.device
    ) -> EMIterations:
        """Go on from what :meth:`state` returned, on another device perhaps."""
        parts = state["restarts"]
        starts = Starts(
            [MixtureParameters(*part["parameters"]) for part in parts],
            state["centre"],
            state["extents"],
        )
        iterations = cls(starts, settings, device)
        for restart, part in zip(iterations.restarts, parts, strict=True):
            restart.lower_bounds = part["lower_bounds"]
            restart.converged = part["converged"]
            restart.empty = set(part["empty"])
            restart.fall = part["fall"]
        dtype = iterations._workspace.dtype
        iterations._active = state["active"]
        iterations._go_on_from(MixtureParameters(*state["parameters"]).to(device, dtype))
        iterations._knows_extents = state["knows_extents"]
        scatter = state["scatter"]
        iterations._scatter = None if scatter is None else scatter.to(device, dtype)
        iterations._needs_exact = state["needs_exact"]
        return iterations

    @property
    def is_finished(self) -> bool:
        """Whether all mixtures have converged."""
        return all(restart.converged for restart in self.restarts)
