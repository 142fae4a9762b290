"""EM for many fits at once, one iteration at a time, on rows that the caller supplies."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain, islice
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from sklearn_torch_gmm.core.caller import level_of_caller
from sklearn_torch_gmm.core.device import arithmetic_dtype, moved
from sklearn_torch_gmm.core.e_step import EStep, cost_of_pass
from sklearn_torch_gmm.core.exact_step import ExactEStep
from sklearn_torch_gmm.core.fast_step import FastEStep, FastPass
from sklearn_torch_gmm.core.gap_pass import GapPass
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.splits import Splits
from sklearn_torch_gmm.core.workspace import Workspace
from sklearn_torch_gmm.em.fit import Fit, Outcome
from sklearn_torch_gmm.em.joint_step import m_steps
from sklearn_torch_gmm.em.known_data import KnownData
from sklearn_torch_gmm.em.progress import PassReport
from sklearn_torch_gmm.em.restarts import Restart, Starts, raise_if_all_failed
from sklearn_torch_gmm.em.settings import FitSettings

OverProcesses = Callable[[Tensor, str], None]
"""``over_processes(values, how)`` replaces the values of this process by their "sum" or "max" over
all processes."""

Numbers = Sequence[Sequence[float]]
"""The numbers that the host has read about an M-step, for each fit."""

MOST_LOST_TO_OFFSETS = 5e-3
"""Rounding of a feature's middle, as a part of its range, from which on a fit warns.

Log-likelihoods are then off by some 1e-4 nats; with twice the value, by four times as much.
"""

ROUNDING_OF_MIDDLE = 1e-12
"""Rounding of the middle of ten thousand equal values, relative to them."""


class Iterations:
    """The state of all fits that share the passes over the data.

    Fits of one covariance structure share the products of a pass, and all fits share the rows. An
    iteration is :meth:`begin_e_step`, :meth:`add` for each batch, :meth:`m_step`, :meth:`test`.

    Parameters
    ----------
    starts : Starts
    settings : sequence of FitSettings
        Settings of each fit.
    device : torch.device
        Device of the sums.
    scores : bool, default=False
        Whether a last pass computes the likelihood under the final parameters.
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
        self._data = KnownData(
            moved(starts.centre, device, dtype),
            moved(starts.max_deviations, device, dtype),
            starts.are_of_all,
            starts.num_rows,
        )
        if dtype == torch.float32:
            _warn_of_offsets(starts)
        self._workspace = Workspace(dtype, device)
        components = Counter[str]()
        for restarts, own in zip(starts.restarts, settings, strict=True):
            components[own.covariance_type] += len(restarts) * own.num_components
        self.fits = [
            Fit(restarts, own, self._data, self._workspace, components[own.covariance_type])
            for restarts, own in zip(starts.restarts, settings, strict=True)
        ]
        self._splits = Splits() if settings[0].loop.missing else None
        self._needs_scores = scores
        self._is_scoring = False
        self._begin_time = 0.0
        self._in_pass: list[tuple[Fit, EStep]] = []
        self._passes: Sequence[EStep | FastPass | GapPass] = []

    @property
    def latest_bound(self) -> float:
        """The best bound so far, in nats."""
        return max(fit.latest_bound for fit in self.fits)

    @property
    def is_finished(self) -> bool:
        """Whether all fits are finished and, if needed, scored."""
        return not self._needs_scores and all(fit.is_finished for fit in self.fits)

    # -- one iteration ----------------------------------------------------------------------------

    def begin_e_step(self, *, resident_rows: int | None = None) -> None:
        """Begin an E-step.

        ``resident_rows`` is the number of rows if every iteration reads the same batches from
        memory, so that T(x) of a few rows can be reused in the next iteration.
        """
        self._begin_time = perf_counter()
        before = [step for _, step in self._in_pass]
        unfinished = [fit for fit in self.fits if not fit.is_finished]
        self._is_scoring = not unfinished
        if unfinished:
            self._in_pass = [(fit, fit.begin_e_step()) for fit in unfinished]
        else:
            begun = [(fit, fit.begin_scoring()) for fit in self.fits if self._needs_scores]
            self._in_pass = [(fit, step) for fit, step in begun if step is not None]
        steps = [step for _, step in self._in_pass]
        if steps == before:
            for one in self._passes:
                assert not isinstance(one, EStep), "only a fast step begins another pass"
                one.renew()
            return
        self._passes = _share(steps, resident_rows)
        if self._splits is not None:
            self._passes = [GapPass(steps, self._passes, self._splits, resident_rows=resident_rows)]

    def add(
        self, rows: Tensor, sample_weight: Tensor | None = None, labels: Tensor | None = None
    ) -> None:
        """Add ``rows [N, D]`` with weights and labels ``[N]`` to the moments of the iteration."""
        for one in self._passes:
            one.add(rows, sample_weight, labels)

    def m_step(self, over_processes: OverProcesses | None = None) -> Numbers:
        """Do the M-steps, over all processes if there are several, and read their reports."""
        sums = [step.moments for _, step in self._in_pass]
        if over_processes is not None:
            sums = self._reduce(sums, over_processes)
        fits = [fit for fit, _ in self._in_pass]
        if self._is_scoring:
            packed = [fit.score(moments) for fit, moments in zip(fits, sums, strict=True)]
        else:
            packed = m_steps(fits, sums)
        # The only transfer of an iteration from the device to the host.
        together = [torch.cat(packed)] if len(packed) > 1 else packed
        read = chain.from_iterable(part.tolist() for part in together)
        # Not `len(own)`, which is written in Python.
        numbers = [list(islice(read, own.shape[0])) for own in packed]
        self._learn(sums)
        self._share_time()
        return numbers

    def test(self, numbers: Numbers) -> Outcome:
        """Test each mixture for convergence, given the numbers that :meth:`m_step` returned.

        Raises
        ------
        IllDefinedCovarianceError
            If a covariance is not positive definite after regularization, unless the fit
            continues without the restart.
        NonFiniteLikelihoodError
            If a log-likelihood is not finite, unless the fit continues without the restart.
        """
        outcomes = []
        for (fit, _), own in zip(self._in_pass, numbers, strict=True):
            if self._is_scoring:
                fit.record_scores(own)
            else:
                outcomes.append(fit.test(own))
        if self._is_scoring:
            self._needs_scores = False
        raise_if_all_failed([fit.mixtures.restarts for fit in self.fits])
        if self.is_finished:
            return Outcome.FINISHED
        return Outcome.REPEAT if Outcome.REPEAT in outcomes else Outcome.CONTINUES

    def cost(self, num_rows: int) -> int:
        """Return the cost of a pass over the rows, in multiplications."""
        cost = 0
        for _, step in self._in_pass:
            restarts, components, num_features = step.parameters.means.shape
            cost += cost_of_pass(num_rows, restarts * components, num_features, step.structure)
        return cost

    def _reduce(self, sums: list[Moments], over_processes: OverProcesses) -> list[Moments]:
        """Return the sums over all processes, sent as one message."""
        if not sums:
            return []
        are_fast = [isinstance(step, FastEStep) for _, step in self._in_pass]
        is_new = self._data.scatter is None
        packed = [
            moments.pack(with_scatter=is_new or not is_fast)
            for moments, is_fast in zip(sums, are_fast, strict=True)
        ]
        together = torch.cat(packed)
        over_processes(together, "sum")
        if not self._data.knows_all:
            over_processes(self._data.max_deviations, "max")
        parts = together.split([len(part) for part in packed])
        return [moments.unpack(part) for moments, part in zip(sums, parts, strict=True)]

    def _learn(self, sums: list[Moments]) -> None:
        """Keep the facts about the data that the pass has collected."""
        self._data.knows_all = True
        for moments, (_, step) in zip(sums, self._in_pass, strict=True):
            if isinstance(step, FastEStep) and moments.scatter is not None:
                self._data.scatter = moments.scatter

    def _share_time(self) -> None:
        """Add to each fit in the pass its share of the time."""
        seconds = perf_counter() - self._begin_time
        sizes = [step.moments.sums.numel() for _, step in self._in_pass]
        for (fit, _), size in zip(self._in_pass, sizes, strict=True):
            fit.charge(seconds * size / sum(sizes))

    # -- results and checkpoints ------------------------------------------------------------------

    def report(self) -> PassReport:
        """Return the progress of all fits."""
        restarts = [restart for fit in self.fits for restart in fit.mixtures.restarts]
        best = max(restarts, key=lambda restart: restart.lower_bound)
        *_, before, bound = (math.nan, -math.inf, *best.lower_bounds)
        return PassReport(
            iterations=max(len(restart.lower_bounds) for restart in restarts),
            max_iter=self.fits[0].settings.loop.max_iter,
            fits_done=sum(fit.is_finished for fit in self.fits),
            num_fits=len(self.fits),
            bound=bound,
            change=bound - before if math.isfinite(before) else math.nan,
            is_last=self.is_finished,
        )

    def results(self) -> list[list[Restart]]:
        """Return the restarts of each fit, with parameters in float64 on the CPU."""
        return [fit.results() for fit in self.fits]

    def release(self) -> None:
        """Free the memory of the passes; no rows can be added afterwards."""
        self._in_pass, self._passes = [], []
        if self._splits is not None:
            self._splits.release()
        self._workspace.release()

    def state(self) -> dict[str, Any]:
        """Return the state between two iterations: tensors and plain values."""
        return {
            "fits": [fit.state() for fit in self.fits],
            "needs_scores": self._needs_scores,
            **vars(self._data),
        }

    @classmethod
    def from_state(
        cls, state: dict[str, Any], settings: Sequence[FitSettings], device: torch.device
    ) -> Iterations:
        """Continue from the value of :meth:`state`, possibly on another device."""
        restarts = [
            [Restart.from_plain(plain, own) for plain in fit["restarts"]]
            for fit, own in zip(state["fits"], settings, strict=True)
        ]
        facts = [state[name] for name in ("centre", "max_deviations", "knows_all", "num_rows")]
        starts = Starts(restarts, *facts)
        iterations = cls(starts, settings, device, scores=state["needs_scores"])
        data, scatter = iterations._data, state["scatter"]
        data.scatter = None if scatter is None else scatter.to(data.centre)
        for fit, own in zip(iterations.fits, state["fits"], strict=True):
            # Not `=`, since the state of a finished fit lacks the accuracy that iterations need.
            fit.accuracy.needs_exact |= own["needs_exact"]
        return iterations


def _share(steps: Sequence[EStep], resident_rows: int | None) -> list[EStep | FastPass]:
    """Return one pass for all fast steps of a structure, and one for each other step."""
    by_structure: dict[str, list[FastEStep]] = {}
    passes: list[EStep | FastPass] = []
    for step in steps:
        if isinstance(step, FastEStep):
            by_structure.setdefault(step.structure.name, []).append(step)
        else:
            if isinstance(step, ExactEStep):
                step.resident_rows = resident_rows
            passes.append(step)
    fast = (FastPass(alike, resident_rows=resident_rows) for alike in by_structure.values())
    return [*passes, *fast]


def _warn_of_offsets(starts: Starts) -> None:
    """Warn of features whose values differ by little more than their rounding to float32."""
    lost = torch.finfo(torch.float32).eps * starts.centre.abs() / starts.max_deviations
    # A constant feature loses nothing; it deviates from its middle by rounding.
    differs = starts.max_deviations > ROUNDING_OF_MIDDLE * starts.centre.abs()
    lost = torch.where(differs, lost, 0.0)
    feature = int(lost.argmax())
    if lost[feature] > MOST_LOST_TO_OFFSETS:
        middle, distance = starts.centre[feature].item(), starts.max_deviations[feature].item()
        warnings.warn(
            "The arithmetic is in float32, which hardly tells the values of feature "
            f"{feature} apart: they are within {distance:.1g} of {middle:.3g}. Subtract their "
            "mean, or choose precision='64-true' in trainer_params.",
            stacklevel=level_of_caller(),
        )
