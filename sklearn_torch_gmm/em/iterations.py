"""EM for many mixtures at once, iteration by iteration, without the machinery around it."""

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
from sklearn_torch_gmm.em.known_data import KnownData
from sklearn_torch_gmm.em.member import Member, Outcome
from sklearn_torch_gmm.em.restarts import (
    Restart,
    Starts,
    raise_if_all_failed,
)
from sklearn_torch_gmm.em.settings import FitSettings

OverProcesses = Callable[[Tensor, str], None]
"""``over_processes(values, how)`` replaces the values of this process by their "sum" or "max" over
all of them."""


class EMIterations:
    """The state of all mixtures that share the passes over the data, between these.

    A fit has one member, which holds its starts. Members of one covariance structure share the
    products of a pass, and all of them the rows.

    Parameters
    ----------
    starts : Starts
    members : sequence of FitSettings
    device : torch.device
        Where the sums are kept.
    scores : bool, default=False
        Whether a last pass finds the likelihood of the parameters that the last M-step found.

    Attributes
    ----------
    members : list of Member
    """

    def __init__(
        self,
        starts: Starts,
        members: Sequence[FitSettings],
        device: torch.device,
        *,
        scores: bool = False,
    ) -> None:
        dtype = arithmetic_dtype(device, members[0].trainer_params.get("precision"))
        self._data = KnownData(starts.centre.to(device, dtype), starts.extents.to(device, dtype))
        self._workspace = Workspace(dtype, device)
        components = Counter[str]()
        for restarts, settings in zip(starts.restarts, members, strict=True):
            components[settings.covariance_type] += len(restarts) * settings.num_components
        self.members = [
            Member(
                restarts,
                settings,
                self._data,
                self._workspace,
                components[settings.covariance_type],
            )
            for restarts, settings in zip(starts.restarts, members, strict=True)
        ]
        self._needs_scores = scores
        self._is_scoring = False
        self._begin_time = 0.0
        self._in_pass: list[tuple[Member, EStep]] = []
        self._passes: list[EStep | FastPass] = []

    @property
    def latest_bound(self) -> float:
        """The best mean log-likelihood so far, in nats."""
        return max(member.latest_bound for member in self.members)

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return not self._needs_scores and all(member.is_finished for member in self.members)

    def multiplications(self, num_rows: int) -> int:
        """How many multiplications the first product of a pass over so many rows takes."""
        return num_rows * sum(step.moments.sums.numel() for _, step in self._in_pass)

    def begin(self, *, resident_rows: int | None = None) -> None:
        """Begin an iteration.

        Parameters
        ----------
        resident_rows : int, optional
            How many rows there are, if the batches are those of the other iterations that were
            begun so.
        """
        self._begin_time = perf_counter()
        going_on = [member for member in self.members if not member.is_finished]
        self._is_scoring = not going_on
        if going_on:
            self._in_pass = [(member, member.begin()) for member in going_on]
        else:
            begun = [(m, m.begin_scoring()) for m in self.members if self._needs_scores]
            self._in_pass = [(member, step) for member, step in begun if step is not None]
        self._passes = _share([step for _, step in self._in_pass], resident_rows)

    def add(self, rows: Tensor, sample_weight: Tensor | None = None) -> None:
        """Add ``rows [N, D]`` with weights ``[N]`` to the moments of the iteration."""
        for one in self._passes:
            one.add(rows, sample_weight)

    def end(self, over_processes: OverProcesses | None = None) -> Outcome:
        """Do the M-steps and test each mixture for convergence.

        Parameters
        ----------
        over_processes : callable or None
            Where there are several processes.

        Raises
        ------
        IllDefinedCovarianceError
            If a covariance is not positive definite after regularization, unless the fit goes on
            without the start.
        NonFiniteLikelihoodError
            If a log-likelihood is not finite, with the same exception.
        """
        members = [member for member, _ in self._in_pass]
        sums = [step.moments for _, step in self._in_pass]
        if over_processes is not None:
            sums = self._reduce(sums, over_processes)
        numbers = [
            member.score(moments) if self._is_scoring else member.m_step(moments)
            for member, moments in zip(members, sums, strict=True)
        ]
        # The one transfer of an iteration from the device to the host.
        together = [torch.cat(numbers)] if len(numbers) > 1 else numbers
        read = chain.from_iterable(part.tolist() for part in together)
        self._learn(sums)
        is_repeated = False
        for member, own in zip(members, numbers, strict=True):
            values = list(islice(read, len(own)))
            if self._is_scoring:
                member.conclude_scoring(values)
            else:
                is_repeated |= member.conclude(values) is Outcome.REPEAT
        if self._is_scoring:
            self._needs_scores = False
        self._share_time()
        raise_if_all_failed([member.restarts for member in self.members])
        if self.is_finished:
            return Outcome.FINISHED
        return Outcome.REPEAT if is_repeated else Outcome.GOES_ON

    def finished_members(self) -> dict[int, list[Restart]]:
        """The starts of members that take no part in iterations to come, by position."""
        return {i: m.restarts for i, m in enumerate(self.members) if m.is_finished}

    def results(self) -> list[list[Restart]]:
        """What became of the starts of each member, in float64 on the CPU."""
        return [member.results() for member in self.members]

    def release(self) -> None:
        """Give back the memory of the passes; nothing can be added any more."""
        self._in_pass, self._passes = [], []
        self._workspace.release()

    # -- one iteration ----------------------------------------------------------------------------

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
        """Charge each member of the pass with its share of the time that it took."""
        seconds = perf_counter() - self._begin_time
        sizes = [step.moments.sums.numel() for _, step in self._in_pass]
        for (member, _), size in zip(self._in_pass, sizes, strict=True):
            member.charge(seconds * size / sum(sizes))

    # -- for checkpoints and other processes ------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that goes on from iteration to iteration: tensors and plain values."""
        return {
            "members": [member.state() for member in self.members],
            "needs_scores": self._needs_scores,
            **vars(self._data),
        }

    @classmethod
    def from_state(
        cls, state: dict[str, Any], members: Sequence[FitSettings], device: torch.device
    ) -> EMIterations:
        """Go on from what :meth:`state` returned, on another device perhaps."""
        restarts = [
            [Restart.from_plain(plain) for plain in member["restarts"]]
            for member in state["members"]
        ]
        starts = Starts(restarts, state["centre"], state["extents"])
        iterations = cls(starts, members, device, scores=state["needs_scores"])
        data, scatter = iterations._data, state["scatter"]
        data.knows_all = state["knows_all"]
        data.scatter = None if scatter is None else scatter.to(data.centre)
        for member, own in zip(iterations.members, state["members"], strict=True):
            # Of a member that was finished and goes on, the state tells nothing.
            member.needs_exact |= own["needs_exact"]
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
