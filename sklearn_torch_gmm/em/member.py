"""EM for the starts of one mixture, between the passes over the data."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import FEW_ROWS
from sklearn_torch_gmm.core.e_step import EStep
from sklearn_torch_gmm.core.exact_step import ExactEStep
from sklearn_torch_gmm.core.fast_step import FastEStep
from sklearn_torch_gmm.core.fixed import keep_parts
from sklearn_torch_gmm.core.inference import TOLERATED_ERROR as TOLERATED_ERROR_OF_SCORES
from sklearn_torch_gmm.core.m_step import MStepResult, m_step, negligible_weight
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.rounding import (
    TOLERATED_ERROR,
    cancellation,
    cancellation_of_moments,
    cancellation_of_scatter,
    largest_moments,
)
from sklearn_torch_gmm.core.workspace import Workspace, is_wide
from sklearn_torch_gmm.em.failures import find_unusable, not_finite
from sklearn_torch_gmm.em.known_data import KnownData
from sklearn_torch_gmm.em.monotonicity import explained_fall, rounding_of_sums
from sklearn_torch_gmm.em.restarts import Restart
from sklearn_torch_gmm.em.settings import FitSettings


class Outcome(enum.Enum):
    """What an iteration led to."""

    GOES_ON = enum.auto()
    FINISHED = enum.auto()
    """Nothing is left to do."""
    REPEAT = enum.auto()
    """The pass has turned out to have lost digits: the iteration is to be done again, exactly."""


class Member:
    """The starts of one number of components and one covariance structure.

    A mixture that has converged, has done its iterations or has failed takes no part in later
    passes.

    Parameters
    ----------
    restarts : list of Restart
    settings : FitSettings
    data : KnownData
    workspace : Workspace
    components_in_pass : int
        Of all mixtures that would share the moments T(x) of a row, these ones included.

    Attributes
    ----------
    needs_exact : bool
        Whether the next pass works with differences to the means.
    """

    def __init__(
        self,
        restarts: list[Restart],
        settings: FitSettings,
        data: KnownData,
        workspace: Workspace,
        components_in_pass: int,
    ) -> None:
        self.restarts = restarts
        self.settings = settings
        self._structure = settings.structure
        self._data = data
        self._workspace = workspace
        num_features = data.centre.shape[0]
        num_moments = 1 + self._structure.num_moments(num_features)
        self._is_wide = is_wide(num_moments, components_in_pass * num_features)
        self._about: Tensor | None = None
        self._largest: Tensor | None = None
        self._last_step: tuple[MixtureParameters, Tensor] | None = None
        self._in_pass: list[int] = []
        self._parameters: MixtureParameters
        self._natural: Tensor
        self._step: EStep
        self._before: MixtureParameters
        self._moments: Moments
        self._bounds: Tensor
        self._errors: Tensor | None
        self._result: MStepResult
        self._has_rare_cases = False
        self.needs_exact = False
        self._active = [i for i, restart in enumerate(restarts) if self._goes_on(restart)]
        if self._active:
            self._go_on_from(self._stack(self._active))
            self.needs_exact = not self._are_safe(self._error_bounds().tolist())

    @property
    def is_finished(self) -> bool:
        """Whether no mixture takes part in passes to come."""
        return not self._active

    @property
    def latest_bound(self) -> float:
        """The best mean log-likelihood, in nats."""
        return max(restart.lower_bound for restart in self.restarts)

    # -- one iteration ----------------------------------------------------------------------------

    def begin(self) -> EStep:
        """Begin an iteration: what the rows are to be added to."""
        return self._begin(exact=self.needs_exact)

    def charge(self, seconds: float) -> None:
        """Share the time of a pass among the mixtures that took part in it."""
        for index in self._in_pass:
            self.restarts[index].seconds += seconds / len(self._in_pass)

    def _begin(self, *, exact: bool, with_certainty: bool = False) -> EStep:
        data, self._in_pass = self._data, self._active
        if exact:
            self._step = ExactEStep(
                self._parameters,
                data.centre,
                self._structure,
                self._workspace,
                about=self._about,
                with_certainty=with_certainty,
            )
        else:
            self._step = FastEStep(
                self._parameters,
                data.centre,
                self._structure,
                self._workspace,
                natural=self._natural,
                extents=None if data.knows_all else data.extents,
                scatter=data.scatter,
                with_certainty=with_certainty,
            )
        return self._step

    def m_step(self, moments: Moments) -> Tensor:
        """Do the M-step, and return what :meth:`conclude` wants to know; the host need not wait."""
        self._before, self._moments = self._parameters, moments
        self._bounds = self._step.log_likelihood(moments) / moments.counts.sum(-1)
        self._errors = None
        if not self.needs_exact and not self._data.knows_all:
            self._errors = self._error_bounds()
        return self._update()

    def _update(self) -> Tensor:
        before, settings = self._before, self.settings
        result = m_step(
            self._moments,
            self._step.centre,
            before.means,
            self._structure,
            settings.regularization,
            keep_rounding=settings.keep_rounding,
            keep_means="means" in settings.fixed,
            rare_cases=self._has_rare_cases,
        )
        if settings.fixed:
            result = keep_parts(result, before, settings.fixed)
        self._result = result
        self._go_on_from(result.parameters)
        errors = self._error_bounds()
        if self._errors is not None:
            errors = torch.maximum(errors, self._errors)
        drifts = errors
        if self.needs_exact:
            drifts = cancellation_of_moments(result.parameters, self._step.centre, self._structure)
        fewest = self._moments.counts.amin(-1)
        return torch.cat([self._bounds, errors, drifts, result.usable.all(-1), fewest])

    def conclude(self, numbers: Sequence[float]) -> Outcome:
        """Test each mixture for convergence.

        Parameters
        ----------
        numbers : sequence of float
            What :meth:`m_step` returned.

        Raises
        ------
        IllDefinedCovarianceError
            If a covariance is not positive definite after regularization, unless the fit goes on
            without the start.
        NonFiniteLikelihoodError
            If a log-likelihood is not finite, with the same exception.
        """
        bounds, errors, drifts, usable, fewest = self._parts(numbers)
        # What is done for them is a third of the operations, and hardly ever needed.
        if any(count < FEW_ROWS for count in fewest) and not self._has_rare_cases:
            self._has_rare_cases = True
            bounds, errors, drifts, usable, fewest = self._parts(self._update().tolist())
        if not self.needs_exact and not self._are_safe(errors):
            self.needs_exact = True
            self._go_on_from(self._before)
            return Outcome.REPEAT
        if self.needs_exact and self._about is None and not self._are_safe(drifts):
            # Moments about the means that this pass has found have the digits that it lost.
            self._about = self._result.parameters.means
            self._go_on_from(self._before)
            return Outcome.REPEAT
        self._about = None
        negligible = negligible_weight(self._data.centre.dtype)
        look_closer = not all(usable) or any(count <= negligible for count in fewest)
        failures = self._failures(bounds, look_closer=look_closer)
        self._remember_falls(bounds)
        going_on = [p for p, bound in enumerate(bounds) if self._remember(p, bound, failures)]
        self.needs_exact = not self._are_safe([errors[position] for position in going_on])
        self._last_step = self._before, self._moments.counts
        if len(going_on) < len(bounds):
            self._retire(going_on)
        return Outcome.GOES_ON if going_on else Outcome.FINISHED

    def _parts(self, numbers: Sequence[float]) -> Iterator[Sequence[float]]:
        count = len(self._active)
        return (numbers[first : first + count] for first in range(0, 5 * count, count))

    def _failures(
        self, lower_bounds: Sequence[float], *, look_closer: bool
    ) -> dict[int, ValueError]:
        """Errors by position; raised unless the fit goes on without the starts."""
        failures: dict[int, ValueError] = {
            position: not_finite(bound)
            for position, bound in enumerate(lower_bounds)
            if not math.isfinite(bound)
        }
        if not failures and look_closer:
            self._remember_empty(self._result.empty)
        if look_closer:
            failures = {**failures, **find_unusable(self._result, self.settings, beside=failures)}
        if failures and not self.settings.goes_on_without:
            raise failures[min(failures)]
        return failures

    def _remember(self, position: int, bound: float, failures: dict[int, ValueError]) -> bool:
        """Note what an iteration led to, and tell whether there will be another."""
        settings, restart = self.settings, self.restarts[self._active[position]]
        restart.error = failures.get(position)
        if restart.error is not None:
            return False
        before = restart.lower_bounds or [settings.start.previous_lower_bound]
        change = bound - before[-1]
        restart.lower_bounds.append(bound)
        if settings.progress is not None:
            settings.progress.iteration(len(restart.lower_bounds), change)
        restart.converged = abs(change) < settings.tolerance or settings.is_all_fixed
        return self._goes_on(restart)

    def _goes_on(self, restart: Restart) -> bool:
        done, limit = len(restart.lower_bounds), self.settings.max_iter
        if restart.error is not None or (restart.converged and done >= self.settings.min_iter):
            return False
        return limit is None or limit < 0 or done < limit

    def _remember_empty(self, empty: Tensor) -> None:
        for position, component in empty.nonzero().tolist():
            self.restarts[self._active[position]].empty.add(component)

    def _remember_falls(self, lower_bounds: Sequence[float]) -> None:
        """Look for likelihoods, which are those before the M-step, that are less than the last."""
        if self._last_step is None:
            return
        before, counts = self._last_step
        dtype = self._data.centre.dtype
        explained: Tensor | None = None
        for position, bound in enumerate(lower_bounds):
            restart = self.restarts[self._active[position]]
            fall = restart.lower_bound - bound
            if restart.fall or fall <= rounding_of_sums(bound, dtype):
                continue
            if explained is None:
                explained = explained_fall(before, self._before, counts, self.settings)
            if fall > explained[position].item() + rounding_of_sums(bound, dtype):
                restart.fall = [restart.lower_bound, bound]

    def _retire(self, going_on: Sequence[int]) -> None:
        """Take the mixtures at all other positions out of the passes to come."""
        if not going_on:
            self._put_back()
            self._active = []
            return
        for position, index in enumerate(self._active):
            if position not in going_on:
                # A copy: a view would keep the parameters of the others in memory.
                self.restarts[index].parameters = self._parameters.select([position])
        self._active = [self._active[position] for position in going_on]
        counts = self._moments.counts[list(going_on)]
        self._last_step = self._before.select(going_on), counts
        self._go_on_from(self._parameters.select(going_on))

    def _put_back(self) -> None:
        """Let the starts that are in the passes know their parameters, which are views."""
        if self._active:
            parts = zip(*(values.split(1) for values in self._parameters.tensors()), strict=True)
            for index, own in zip(self._active, parts, strict=True):
                self.restarts[index].parameters = MixtureParameters(*own)

    def _go_on_from(self, parameters: MixtureParameters) -> None:
        self._parameters = parameters
        if self._is_wide:
            # As many numbers as parameters, which only the fast E-step needs.
            return
        self._natural = self._structure.natural_parameters(
            parameters.weights,
            parameters.means - self._data.centre,
            parameters.precisions_cholesky,
        )

    def _stack(self, positions: Sequence[int]) -> MixtureParameters:
        centre = self._data.centre
        found = [self.restarts[position].parameters for position in positions]
        return MixtureParameters.stack([p.to(centre.device, centre.dtype) for p in found])

    def _error_bounds(self) -> Tensor:
        if self._is_wide:
            return self._parameters.weights.new_full(self._parameters.weights.shape[:1], math.inf)
        largest = self._largest
        if largest is None:
            largest = largest_moments(self._data.extents, self._structure)
            self._largest = largest if self._data.knows_all else None
        errors = cancellation(self._natural, largest)
        if self._structure.has_pooled_scatter:
            factors = self._parameters.precisions_cholesky
            errors = errors + cancellation_of_scatter(factors, self._data.extents)
        return errors

    def _are_safe(self, errors: Sequence[float]) -> bool:
        # Not "greater than": a bound that is not a number is not safe either.
        return all(error <= TOLERATED_ERROR[self._data.centre.dtype] for error in errors)

    # -- the pass after the last iteration --------------------------------------------------------

    def begin_scoring(self) -> EStep | None:
        """Begin a pass that finds the likelihood of the parameters that the last M-step found."""
        self._active = [i for i, restart in enumerate(self.restarts) if restart.error is None]
        if not self._active:
            return None
        self._go_on_from(self._stack(self._active))
        errors = self._error_bounds().tolist()
        is_safe = all(error <= TOLERATED_ERROR_OF_SCORES for error in errors)
        return self._begin(exact=not is_safe, with_certainty=True)

    def score(self, moments: Moments) -> Tensor:
        """Return what :meth:`conclude_scoring` wants to know; the host need not wait."""
        assert moments.certainty is not None
        sums = torch.cat([self._step.log_likelihood(moments), moments.certainty])
        return sums / moments.counts.sum(-1).repeat(2)

    def conclude_scoring(self, numbers: Sequence[float]) -> None:
        """Remember the scores of the mixtures."""
        count = len(self._active)
        for index, bound, certainty in zip(
            self._active, numbers[:count], numbers[count:], strict=True
        ):
            restart = self.restarts[index]
            restart.log_likelihood, restart.certainty = bound, certainty
            if not math.isfinite(bound):
                restart.error = not_finite(bound)
        self._active = []

    # -- for checkpoints and other processes ------------------------------------------------------

    def results(self) -> list[Restart]:
        """What became of the starts, in float64 on the CPU."""
        self._put_back()
        for restart in self.restarts:
            restart.parameters = restart.parameters.to("cpu", torch.float64)
        return self.restarts

    def state(self) -> dict[str, Any]:
        """What goes on from iteration to iteration."""
        self._put_back()
        return {
            "covariance_type": self.settings.covariance_type,
            "needs_exact": self.needs_exact,
            "restarts": [restart.to_plain() for restart in self.restarts],
        }
