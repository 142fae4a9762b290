"""One fit between the passes over the data: its E-step, its M-step, its test of convergence."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import FEW_ROWS
from sklearn_torch_gmm.core.e_step import EStep
from sklearn_torch_gmm.core.exact_step import ExactEStep
from sklearn_torch_gmm.core.fast_step import FastEStep
from sklearn_torch_gmm.core.inference import TOLERATED_ERROR_OF_PREDICTIONS
from sklearn_torch_gmm.core.m_step import MStepResult, negligible_weight
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.workspace import Workspace
from sklearn_torch_gmm.em.acceleration import Squarem
from sklearn_torch_gmm.em.accuracy import Accuracy
from sklearn_torch_gmm.em.convergence import Convergence
from sklearn_torch_gmm.em.failures import find_unusable, not_finite
from sklearn_torch_gmm.em.known_data import KnownData
from sklearn_torch_gmm.em.mixtures import Mixtures
from sklearn_torch_gmm.em.report import StepReport
from sklearn_torch_gmm.em.restarts import Restart
from sklearn_torch_gmm.em.settings import FitSettings


class Outcome(enum.Enum):
    """The result of an iteration."""

    CONTINUES = enum.auto()
    FINISHED = enum.auto()
    REPEAT = enum.auto()
    """The pass has lost too much precision: the iteration is repeated, exactly."""


class _Pass(NamedTuple):
    """The input of an M-step; it is kept in case the step or the whole pass is repeated."""

    e_step: EStep
    before: MixtureParameters
    moments: Moments
    """Summed over all rows."""
    errors: Tensor | None
    """Bounds ``[R]`` on the error of the E-step, if its rows were seen for the first time."""


class Fit:
    """EM for the restarts of one number of components and one covariance structure.

    A restart that has converged, has done its iterations or has failed takes no part in later
    passes.

    Parameters
    ----------
    restarts : list of Restart
    settings : FitSettings
    data : KnownData
    workspace : Workspace
    components_in_pass : int
        Components of all mixtures that would share T(x), including those of this fit.
    """

    def __init__(
        self,
        restarts: list[Restart],
        settings: FitSettings,
        data: KnownData,
        workspace: Workspace,
        components_in_pass: int,
    ) -> None:
        structure = settings.structure
        self.settings = settings
        tolerated = settings.tolerated_error(data.centre.dtype)
        self.accuracy = Accuracy(structure, data, components_in_pass, tolerated)
        self.mixtures = Mixtures(
            restarts, structure, data.centre, has_natural=not self.accuracy.is_wide
        )
        self.convergence = Convergence(settings, data.centre.dtype)
        self._data = data
        self._workspace = workspace
        self._estimation = settings.estimation.on_device(data.centre.device)
        self.handles_rare_cases = not self._estimation.has_rare_cases
        """Handling them is a third of the operations of an M-step, and hardly ever needed."""
        self._e_step: EStep | None = None
        self._pass: _Pass | None = None
        self._squarem: Squarem | None = None
        if settings.loop.acceleration is not None:
            self._squarem = Squarem(structure, self._estimation.fixed_parts())
        self._result: MStepResult | None = None
        active = [i for i, restart in enumerate(restarts) if self.convergence.continues(restart)]
        self.mixtures.activate(active)
        if active:
            self.accuracy.look_ahead(self.accuracy.errors(self.mixtures).tolist())

    @property
    def is_finished(self) -> bool:
        """Whether no restart takes part in later passes."""
        return not self.mixtures.active

    @property
    def latest_bound(self) -> float:
        """The best bound, in nats."""
        return max(restart.lower_bound for restart in self.mixtures.restarts)

    # -- one iteration ----------------------------------------------------------------------------

    def begin_e_step(self) -> EStep:
        """Return the E-step that the rows are to be added to."""
        return self._begin(exact=self.accuracy.needs_exact)

    def _begin(
        self, *, exact: bool, with_certainty: bool = False, tolerated: float | None = None
    ) -> EStep:
        data, mixtures, structure = self._data, self.mixtures, self.settings.structure
        with_entropy = self._estimation.needs_entropy
        classes = self.settings.classes
        if classes is not None:
            classes = classes.to(data.centre.device)
        if exact:
            about = self.accuracy.about
            self._e_step = ExactEStep(
                mixtures.parameters,
                data.centre,
                structure,
                self._workspace,
                about=None if about is None else about.means,
                ways=self.accuracy.ways(mixtures.parameters, tolerated),
                extents=None if data.knows_all else data.max_deviations,
                with_certainty=with_certainty,
                with_entropy=with_entropy,
                classes=classes,
            )
            return self._e_step
        with_entropy &= not self.accuracy.has_exact_sums
        step, natural = self._e_step, mixtures.natural
        if isinstance(step, FastEStep) and step.is_alike(
            natural, with_certainty=with_certainty, with_entropy=with_entropy
        ):
            step.renew(mixtures.parameters, natural)
        else:
            step = FastEStep(
                mixtures.parameters,
                data.centre,
                structure,
                self._workspace,
                natural=natural,
                extents=None if data.knows_all else data.max_deviations,
                scatter=data.scatter,
                with_certainty=with_certainty,
                with_entropy=with_entropy,
                classes=classes,
            )
        step.many_vanish = self.accuracy.many_vanish
        self._e_step = step
        return step

    def m_step(self, moments: Moments) -> Tensor:
        """Do the M-step; return a :class:`StepReport` as one vector, which the host need not await.

        One vector is one transfer; several transfers would each wait for the device.
        """
        assert self._e_step is not None
        errors = self.accuracy.errors_of_new_rows(self.mixtures)
        self._pass = _Pass(self._e_step, self.mixtures.parameters, moments, errors)
        return self._update(self._pass)

    @property
    def can_join(self) -> bool:
        """Whether the M-steps of this fit and of others of its structure may be one."""
        is_fast = isinstance(self._e_step, FastEStep) and self._data.knows_all
        return is_fast and self._estimation.ignores_small_weights

    def take(self, moments: Moments, result: MStepResult, natural: Tensor) -> None:
        """Take the result of an M-step that was one for several fits."""
        assert self._e_step is not None
        self._pass = _Pass(self._e_step, self.mixtures.parameters, moments, errors=None)
        self._result = result
        self.mixtures.take(result.parameters, natural)

    def _update(self, done: _Pass) -> Tensor:
        settings, estimation = self.settings, self._estimation
        structure = settings.structure
        result = estimation.m_step(
            done.moments,
            done.e_step.centre,
            done.before,
            structure,
            settings.regularization,
            rare_cases=self.handles_rare_cases,
        )
        self._result = result
        bounds = estimation.bounds(done.e_step, done.moments, result.parameters, structure)
        self.mixtures.update(result.parameters)
        errors = self.accuracy.errors(self.mixtures, may_vanish=self.handles_rare_cases)
        if done.errors is not None:
            errors = torch.maximum(errors, done.errors)
        drifts = self.accuracy.drifts(result.parameters, done.e_step.centre)
        drifts = errors if drifts is None else drifts
        # Parts of one type are joined in a tenth of the time.
        usable, fewest = result.usable.all(-1).to(errors), done.moments.counts.amin(-1)
        return StepReport.pack(bounds, errors, drifts, usable, fewest)

    def test(self, numbers: Sequence[float]) -> Outcome:
        """Test each mixture for convergence, given the vector that :meth:`m_step` returned.

        Raises
        ------
        IllDefinedCovarianceError
            If a covariance is not positive definite after regularization, unless the fit
            continues without the restart.
        NonFiniteLikelihoodError
            If a log-likelihood is not finite, with the same exception.
        """
        assert self._pass is not None
        report = StepReport.unpack(numbers)
        if not self.handles_rare_cases and min(report.fewest) < FEW_ROWS:
            self.handles_rare_cases = True
            report = StepReport.unpack(self._update(self._pass).tolist())
        assert self._result is not None
        done, mixtures = self._pass, self.mixtures
        rejected = [] if self._squarem is None else self._rejected(report)
        if rejected:
            report = self._go_back(rejected, report)
        if self.accuracy.must_repeat(report, self._result.parameters):
            mixtures.update(done.before)
            return Outcome.REPEAT
        failures = self._failures(report, self._result)
        if self._estimation.always_rises:
            self.convergence.record_falls(mixtures, report.bounds, done.before)
        continuing = self.convergence.test(mixtures, report.bounds, failures)
        self.accuracy.look_ahead([report.errors[place] for place in continuing])
        self.convergence.remember_step(done.before, done.moments.counts, continuing, rejected)
        moves = self._squarem is not None and self._squarem.advance(
            mixtures.active_restarts, done.before, mixtures.parameters, rejected
        )
        if len(continuing) < len(report.bounds):
            self._check_final(report, continuing)
            mixtures.keep(continuing)
        if continuing and (moves or rejected):
            mixtures.start_from_next_points()
            self.accuracy.look_ahead(self.accuracy.errors(mixtures).tolist())
        return Outcome.CONTINUES if continuing else Outcome.FINISHED

    def _rejected(self, report: StepReport) -> list[int]:
        """Places whose pass started from an extrapolated point that is not an improvement."""
        restarts = self.mixtures.active_restarts
        places = [place for place, restart in enumerate(restarts) if restart.is_extrapolated]
        if not places:
            return []
        assert self._result is not None
        unusable = find_unusable(self._result, self.settings)
        # A bound that is NaN is not at least the last one either.
        return [
            place
            for place in places
            if place in unusable or not report.bounds[place] >= restarts[place].lower_bound
        ]

    def _go_back(self, rejected: Sequence[int], report: StepReport) -> StepReport:
        """Let the pass have found the ends of the last plain steps at the rejected places."""
        assert self._result is not None
        restarts = [self.mixtures.active_restarts[place] for place in rejected]
        centre, result = self._data.centre, self._result
        kept = MixtureParameters.stack(
            [restart.parameters.to(centre.device, centre.dtype) for restart in restarts]
        )
        index = torch.as_tensor(rejected, device=centre.device)
        self._result = MStepResult(
            result.parameters.replace_at(rejected, kept),
            result.usable.index_fill(0, index, True),
            None if result.empty is None else result.empty.index_fill(0, index, False),
        )
        self.mixtures.update(self._result.parameters)
        return report.with_flawless(rejected, [restart.lower_bound for restart in restarts])

    def _failures(self, report: StepReport, result: MStepResult) -> dict[int, ValueError]:
        """Errors by place; raised unless the fit continues without the restarts."""
        failures: dict[int, ValueError] = {
            place: not_finite(bound, self._estimation.bound_name)
            for place, bound in enumerate(report.bounds)
            if not math.isfinite(bound)
        }
        # The first failure is the reason for the failures after it.
        excluded = () if self._estimation.bound_follows_step else tuple(failures)
        negligible = negligible_weight(self._data.centre.dtype)
        if not all(report.usable) or min(report.fewest) <= negligible:
            if not failures and result.empty is not None:
                for place, component in result.empty.nonzero().tolist():
                    self.mixtures.restarts[self.mixtures.active[place]].empty.add(component)
            failures = {**failures, **find_unusable(result, self.settings, excluded)}
        if failures and not self.settings.records_failures:
            raise failures[min(failures)]
        return failures

    def _check_final(self, report: StepReport, continuing: Sequence[int]) -> None:
        """Fail the restarts that end with a covariance which only rounding errors make usable."""
        if self.accuracy.are_tolerated(report.errors):
            # A factor that is rounding error has larger errors in any data.
            return
        assert self._result is not None
        found = find_unusable(self._result, self.settings, continuing, are_final=True)
        restarts = self.mixtures.active_restarts
        failures = {place: error for place, error in found.items() if not restarts[place].error}
        for place, error in failures.items():
            if not self.settings.records_failures:
                raise error
            restarts[place].error = error

    def charge(self, seconds: float) -> None:
        """Divide the time of a pass among the mixtures that take part in it."""
        active = self.mixtures.active
        for index in active:
            self.mixtures.restarts[index].seconds += seconds / len(active)

    # -- the pass after the last iteration --------------------------------------------------------

    def begin_scoring(self) -> EStep | None:
        """Begin the pass that computes the likelihood under the final parameters."""
        restarts = self.mixtures.restarts
        for restart in restarts:
            # The scores are not those of a point that no pass has checked.
            restart.cycle = None
        self.mixtures.activate([i for i, restart in enumerate(restarts) if restart.error is None])
        if self.is_finished:
            return None
        is_fast = self.accuracy.allows_fast_scores(self.mixtures)
        return self._begin(
            exact=not is_fast, with_certainty=True, tolerated=TOLERATED_ERROR_OF_PREDICTIONS
        )

    def score(self, moments: Moments) -> Tensor:
        """Return the means of log p(x), then of log max_k r_k, as one vector ``[2 R]``."""
        assert self._e_step is not None
        assert moments.certainty is not None
        total = moments.total
        log_likelihoods = self._e_step.log_likelihood(moments)
        return torch.cat([log_likelihoods / total, moments.certainty / total])

    def record_scores(self, numbers: Sequence[float]) -> None:
        """Record the scores of the mixtures, given the vector that :meth:`score` returned."""
        active = self.mixtures.active
        scores = zip(numbers[: len(active)], numbers[len(active) :], strict=True)
        for index, (log_likelihood, certainty) in zip(active, scores, strict=True):
            restart = self.mixtures.restarts[index]
            restart.log_likelihood, restart.certainty = log_likelihood, certainty
            if not math.isfinite(log_likelihood):
                restart.error = not_finite(log_likelihood, "mean log-likelihood")
        self.mixtures.active = []

    # -- for checkpoints and other processes ------------------------------------------------------

    def results(self) -> list[Restart]:
        """The restarts, with parameters in float64 on the CPU."""
        self.mixtures.put_back()
        for restart in self.mixtures.restarts:
            restart.parameters = restart.parameters.to("cpu", torch.float64)
        return self.mixtures.restarts

    def state(self) -> dict[str, Any]:
        """The state that is carried from iteration to iteration."""
        self.mixtures.put_back()
        return {
            "covariance_type": self.settings.covariance_type,
            "regularization": self.settings.regularization.amount,
            "seed": self.settings.random.seed,
            "acceleration": self.settings.loop.acceleration,
            "estimation": self._estimation.facts(),
            "needs_exact": self.accuracy.needs_exact,
            "restarts": [restart.to_plain() for restart in self.mixtures.restarts],
        }
