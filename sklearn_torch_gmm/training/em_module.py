"""Expectation–maximization as a Lightning module: one epoch is one iteration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from sklearn_torch_gmm.core.device import arithmetic_dtype
from sklearn_torch_gmm.core.em import (
    TOLERATED_ERROR,
    EStep,
    ExactEStep,
    FastEStep,
    MStepResult,
    cancellation,
    m_step,
)
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.workspace import Workspace
from sklearn_torch_gmm.exceptions import NonFiniteLikelihoodError
from sklearn_torch_gmm.training.failures import raise_for_ill_defined
from sklearn_torch_gmm.training.settings import FitSettings


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
    empty : list of int
        Components that lost all their rows.
    """

    parameters: MixtureParameters
    lower_bounds: list[float] = field(default_factory=list)
    converged: bool = False
    empty: set[int] = field(default_factory=set)

    @property
    def lower_bound(self) -> float:
        """The last mean log-likelihood; minus infinity before the first iteration."""
        return self.lower_bounds[-1] if self.lower_bounds else -math.inf


class EMModule(pl.LightningModule):
    """Fits R mixtures at once; they share the passes over the data.

    A training step adds a batch to the moments. The end of an epoch sums the moments over the
    processes, does the M-step and tests each mixture for convergence; a converged one takes no
    part in later epochs.

    Parameters
    ----------
    starts : sequence of MixtureParameters
        ``[1, ...]`` each.
    centre : Tensor [D]
        A point near the middle of the data.
    extents : Tensor [D]
        Distances from it that rows are known to reach in each feature.
    settings : FitSettings
    """

    def __init__(
        self,
        starts: Sequence[MixtureParameters],
        centre: Tensor,
        extents: Tensor,
        settings: FitSettings,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.settings = settings
        self.structure = settings.structure
        self.restarts = [Restart(start) for start in starts]
        # Distributed strategies refuse a module that has nothing to train.
        self._anchor = nn.Parameter(torch.zeros(()))
        self._active = list(range(len(starts)))
        self._parameters_now = MixtureParameters.stack(starts)
        self._centre = centre
        self._extents = extents
        self._knows_extents = False
        self._scatter: Tensor | None = None
        self._needs_exact = False
        self._natural: Tensor
        self._e_step: EStep
        self._workspace: Workspace

    # -- hooks of Lightning -----------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return an optimizer that is never asked to step; Lightning warns without one."""
        return torch.optim.SGD([self._anchor], lr=0.0)

    def on_fit_start(self) -> None:
        """Take the parameters to the device, in the type that the arithmetic is done in."""
        dtype = arithmetic_dtype(self.device, self.settings.trainer_params.get("precision"))
        self._parameters_now = self._parameters_now.to(self.device, dtype)
        self._centre = self._centre.to(self.device, dtype)
        self._extents = self._extents.to(self.device, dtype)
        self._workspace = Workspace(dtype, self.device)
        error = self._prepare(self._parameters_now)
        self._needs_exact = not self._is_safe(error.item())

    def on_train_epoch_start(self) -> None:
        """Begin an iteration."""
        parameters, centre = self._parameters_now, self._centre
        if self._needs_exact:
            self._e_step = ExactEStep(parameters, centre, self.structure, self._workspace)
        else:
            self._e_step = FastEStep(
                parameters,
                centre,
                self.structure,
                self._workspace,
                natural=self._natural,
                extents=None if self._knows_extents else self._extents,
                scatter=self._scatter,
            )

    @torch.no_grad()
    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Add a batch to the moments."""
        self._e_step.add(*batch)

    @torch.no_grad()
    def on_train_epoch_end(self) -> None:
        """Do the M-step and test for convergence."""
        moments = self._sum_over_processes(self._e_step.moments)
        lower_bounds = self._e_step.log_likelihood(moments) / moments.counts.sum(-1)
        previous = self._parameters_now
        result = m_step(
            moments,
            self._e_step.centre,
            previous.means,
            self.structure,
            self.settings.regularization,
        )
        errors = [self._prepare(result.parameters)]
        if not self._needs_exact and not self._knows_extents:
            natural = self._natural_parameters(previous)
            errors.append(cancellation(natural, self._extents, self.structure))

        # The one transfer of an iteration from the device to the host.
        status = torch.cat(
            [
                lower_bounds,
                torch.stack(errors).amax().unsqueeze(0),
                result.usable.all().unsqueeze(0),
                result.empty.any().unsqueeze(0),
            ]
        ).tolist()
        *bounds, error, all_usable, any_empty = status
        if self.trainer.callbacks or self.trainer.loggers:  # type: ignore[attr-defined]
            # Somebody may look; where nobody can, logging would take most of a small iteration.
            self.log("nll", -max(bounds), prog_bar=True, rank_zero_only=True)

        if not self._needs_exact:
            if not self._is_safe(error):
                self._repeat_exactly()
                return
            self._knows_extents = True
            self._scatter = moments.scatter
        self._check(bounds, result, bool(all_usable))
        if any_empty:
            self._remember_empty(result.empty)
        self._parameters_now = result.parameters
        self._finish_iteration(bounds)
        self._needs_exact = not self._is_safe(error)

    # -- the iteration ----------------------------------------------------------------------------

    def _natural_parameters(self, parameters: MixtureParameters) -> Tensor:
        return self.structure.natural_parameters(
            parameters.weights, parameters.means - self._centre, parameters.precisions_cholesky
        )

    def _prepare(self, parameters: MixtureParameters) -> Tensor:
        """Natural parameters for the next fast E-step; returns the bound on its error."""
        self._natural = self._natural_parameters(parameters)
        return cancellation(self._natural, self._extents, self.structure)

    def _is_safe(self, error: float) -> bool:
        # Not "greater than": a bound that is not a number is not safe either.
        return error <= TOLERATED_ERROR[self._centre.dtype]

    def _repeat_exactly(self) -> None:
        """Do this iteration again with the exact E-step; it does not count."""
        self._needs_exact = True
        loop = self.trainer.fit_loop
        if loop.max_epochs is not None and loop.max_epochs >= 0:
            loop.max_epochs += 1

    def _sum_over_processes(self, moments: Moments) -> Moments:
        if self.trainer.world_size == 1:
            return moments
        is_new = self._scatter is None
        packed = moments.pack(with_scatter=is_new)
        torch.distributed.all_reduce(packed)
        if not self._knows_extents:
            torch.distributed.all_reduce(self._extents, op=torch.distributed.ReduceOp.MAX)
        return moments.unpack(packed)

    def _check(self, bounds: Sequence[float], result: MStepResult, all_usable: bool) -> None:
        if not all(map(math.isfinite, bounds)):
            msg = (
                f"The mean log-likelihood became {min(bounds)}: some rows are so far from all "
                "components that their density cannot be represented. Scale the data, or start "
                "from means inside of them."
            )
            raise NonFiniteLikelihoodError(msg)
        if not all_usable:
            raise_for_ill_defined(result, self.settings)

    def _remember_empty(self, empty: Tensor) -> None:
        for restart, component in empty.nonzero().tolist():
            self.restarts[self._active[restart]].empty.add(component)

    def _finish_iteration(self, bounds: Sequence[float]) -> None:
        settings = self.settings
        going_on = []
        for position, (index, bound) in enumerate(zip(self._active, bounds, strict=True)):
            restart = self.restarts[index]
            before = restart.lower_bounds or [settings.start.previous_lower_bound]
            change = bound - before[-1]
            restart.lower_bounds.append(bound)
            if settings.progress is not None:
                settings.progress.iteration(len(restart.lower_bounds), change)
            restart.converged = abs(change) < settings.tolerance
            if restart.converged:
                restart.parameters = self._parameters_now.select([position])
            else:
                going_on.append(position)
        if not going_on:
            self.trainer.should_stop = True
        elif len(going_on) < len(self._active):
            self._parameters_now = self._parameters_now.select(going_on)
            self._natural = self._natural[going_on]
            self._active = [self._active[position] for position in going_on]

    def results(self) -> list[Restart]:
        """What became of the starts, on the CPU."""
        for position, index in enumerate(self._active):
            restart = self.restarts[index]
            if not restart.converged:
                restart.parameters = self._parameters_now.select([position])
        for restart in self.restarts:
            restart.parameters = restart.parameters.to("cpu", torch.float64)
        return self.restarts
