"""EM for many fits at once, iteration by iteration, whatever carries it through the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain, islice
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from sklearn_torch_gmm.core.device import arithmetic_dtype
from sklearn_torch_gmm.core.e_step import EStep
from sklearn_torch_gmm.core.fast_step import FastEStep, FastPass
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.workspace import Workspace
from sklearn_torch_gmm.em.fit import Fit, Outcome
from sklearn_torch_gmm.em.known_data import KnownData
from sklearn_torch_gmm.em.report import ScoreReport, StepReport
from sklearn_torch_gmm.em.restarts import Restart, Starts, raise_if_all_failed
from sklearn_torch_gmm.em.settings import FitSettings

OverProcesses = Callable[[Tensor, str], None]
"""``over_processes(values, how)`` replaces the values of this process by their "sum" or "max" over
all of them."""

Numbers = Sequence[Sequence[float]]
"""What the host has read of an M-step, fit by fit."""


class Iterations:
    """The state of all fits that share the passes over the data.

    Fits of one covariance structure share the products of a pass, and all of them the rows. An
    iteration is :meth:`begin_e_step`, :meth:`add` for each batch, :meth:`m_step`, :meth:`test`.

    Parameters
    ----------
    starts : Starts
    settings : sequence of FitSettings
        Of each fit.
    device : torch.device
        Where the sums are kept.
    scores : bool, default=False
        Whether a last pass finds the likelihood of the parameters that the last M-step found.

    Attributes
    ----------
    fits : list of Fit
    """

    def __init__(
        self,
        starts: Starts,
        settings: Sequence[FitSettings],
        device: torch.device,
        *,
        scores: bool = False,
    ) -> None:
        dtype = arithmetic_dtype(device, settings[0].loop.trainer_params.get("precision"))
        self._data = KnownData(starts.centre.to(device, dtype), starts.extents.to(device, dtype))
        self._workspace = Workspace(dtype, device)
        components = Counter[str]()
        for restarts, own in zip(starts.restarts, settings, strict=True):
            components[own.covariance_type] += len(restarts) * own.num_components
        self.fits = [
            Fit(restarts, own, self._data, self._workspace, components[own.covariance_type])
            for restarts, own in zip(starts.restarts, settings, strict=True)
        ]
        self._needs_scores = scores
        self._is_scoring = False
        self._begin_time = 0.0
        self._in_pass: list[tuple[Fit, EStep]] = []
        self._passes: list[EStep | FastPass] = []

    @property
    def latest_bound(self) -> float:
        """The best mean log-likelihood so far, in nats."""
        return max(fit.latest_bound for fit in self.fits)

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return not self._needs_scores and all(fit.is_finished for fit in self.fits)

    # -- one iteration ----------------------------------------------------------------------------

    def begin_e_step(self, *, resident_rows: int | None = None) -> None:
        """Begin an E-step.

        Parameters
        ----------
        resident_rows : int, optional
            How many rows there are, if the batches are those of the other iterations that were
            begun so.
        """
        self._begin_time = perf_counter()
        going_on = [fit for fit in self.fits if not fit.is_finished]
        self._is_scoring = not going_on
        if going_on:
            self._in_pass = [(fit, fit.begin_e_step()) for fit in going_on]
        else:
            begun = [(fit, fit.begin_scoring()) for fit in self.fits if self._needs_scores]
            self._in_pass = [(fit, step) for fit, step in begun if step is not None]
        self._passes = _share([step for _, step in self._in_pass], resident_rows)

    def add(self, rows: Tensor, sample_weight: Tensor | None = None) -> None:
        """Add ``rows [N, D]`` with weights ``[N]`` to the moments of the iteration."""
        for one in self._passes:
            one.add(rows, sample_weight)

    def m_step(self, over_processes: OverProcesses | None = None) -> Numbers:
        """Do the M-steps, and read what the tests of convergence need.

        Parameters
        ----------
        over_processes : callable or None
            Where there are several processes.
        """
        sums = [step.moments for _, step in self._in_pass]
        if over_processes is not None:
            sums = self._reduce(sums, over_processes)
        packed = [
            fit.score(moments) if self._is_scoring else fit.m_step(moments)
            for (fit, _), moments in zip(self._in_pass, sums, strict=True)
        ]
        # The one transfer of an iteration from the device to the host.
        together = [torch.cat(packed)] if len(packed) > 1 else packed
        read = chain.from_iterable(part.tolist() for part in together)
        numbers = [list(islice(read, len(own))) for own in packed]
        self._learn(sums)
        self._share_time()
        return numbers

    def test(self, numbers: Numbers) -> Outcome:
        """Test each mixture for convergence.

        Parameters
        ----------
        numbers : sequence of sequences of float
            What :meth:`m_step` returned.

        Raises
        ------
        IllDefinedCovarianceError
            If a covariance is not positive definite after regularization, unless the fit goes on
            without the restart.
        NonFiniteLikelihoodError
            If a log-likelihood is not finite, with the same exception.
        """
        outcomes = []
        for (fit, _), own in zip(self._in_pass, numbers, strict=True):
            if self._is_scoring:
                fit.note_scores(ScoreReport.unpack(own))
            else:
                outcomes.append(fit.test(StepReport.unpack(own)))
        if self._is_scoring:
            self._needs_scores = False
        raise_if_all_failed([fit.mixtures.restarts for fit in self.fits])
        if self.is_finished:
            return Outcome.FINISHED
        return Outcome.REPEAT if Outcome.REPEAT in outcomes else Outcome.GOES_ON

    def multiplications(self, num_rows: int) -> int:
        """How many multiplications the first product of a pass over so many rows takes."""
        return num_rows * sum(step.moments.sums.numel() for _, step in self._in_pass)

    def _reduce(self, sums: list[Moments], over_processes: OverProcesses) -> list[Moments]:
        """Sums over all processes, sent at once."""
        are_fast = [isinstance(step, FastEStep) for _, step in self._in_pass]
        is_new = self._data.scatter is None
        packed = [
            moments.pack(with_scatter=is_new or not is_fast)
            for moments, is_fast in zip(sums, are_fast, strict=True)
        ]
        if not packed:
            return []
        together = torch.cat(packed)
        over_processes(together, "sum")
        if any(are_fast) and not self._data.knows_all:
            over_processes(self._data.extents, "max")
        parts = together.split([len(part) for part in packed])
        return [moments.unpack(part) for moments, part in zip(sums, parts, strict=True)]

    def _learn(self, sums: list[Moments]) -> None:
        """Keep what a fast pass has found out about the data."""
        for moments, (_, step) in zip(sums, self._in_pass, strict=True):
            if isinstance(step, FastEStep):
                self._data.knows_all = True
                if moments.scatter is not None:
                    self._data.scatter = moments.scatter

    def _share_time(self) -> None:
        """Charge each fit in the pass with its share of the time that it took."""
        seconds = perf_counter() - self._begin_time
        sizes = [step.moments.sums.numel() for _, step in self._in_pass]
        for (fit, _), size in zip(self._in_pass, sizes, strict=True):
            fit.charge(seconds * size / sum(sizes))

    # -- what becomes of them ---------------------------------------------------------------------

    def finished_fits(self) -> dict[int, list[Restart]]:
        """The restarts of fits that take no part in iterations to come, by position."""
        return {i: fit.mixtures.restarts for i, fit in enumerate(self.fits) if fit.is_finished}

    def results(self) -> list[list[Restart]]:
        """What became of the restarts of each fit, in float64 on the CPU."""
        return [fit.results() for fit in self.fits]

    def release(self) -> None:
        """Give back the memory of the passes; nothing can be added any more."""
        self._in_pass, self._passes = [], []
        self._workspace.release()

    def state(self) -> dict[str, Any]:
        """Everything that goes on from iteration to iteration: tensors and plain values."""
        return {
            "fits": [fit.state() for fit in self.fits],
            "needs_scores": self._needs_scores,
            **vars(self._data),
        }

    @classmethod
    def from_state(
        cls, state: dict[str, Any], settings: Sequence[FitSettings], device: torch.device
    ) -> Iterations:
        """Go on from what :meth:`state` returned, on another device perhaps."""
        restarts = [
            [Restart.from_plain(plain) for plain in fit["restarts"]] for fit in state["fits"]
        ]
        starts = Starts(restarts, state["centre"], state["extents"])
        iterations = cls(starts, settings, device, scores=state["needs_scores"])
        data, scatter = iterations._data, state["scatter"]
        data.knows_all = state["knows_all"]
        data.scatter = None if scatter is None else scatter.to(data.centre)
        for fit, own in zip(iterations.fits, state["fits"], strict=True):
            # Of a fit that was finished and goes on, the state tells nothing.
            fit.accuracy.needs_exact |= own["needs_exact"]
        return iterations


def _share(steps: Sequence[EStep], resident_rows: int | None) -> list[EStep | FastPass]:
    """One pass for all fast steps of a structure, one for each other step."""
    by_structure: dict[str, list[FastEStep]] = {}
    passes: list[EStep | FastPass] = []
    for step in steps:
        if isinstance(step, FastEStep):
            by_structure.setdefault(step.structure.name, []).append(step)
        else:
            passes.append(step)
    fast = (FastPass(alike, resident_rows=resident_rows) for alike in by_structure.values())
    return [*passes, *fast]
