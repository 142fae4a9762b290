"""All restarts of a fit, and the facts about the data that EM needs before its first pass."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import repeat
from time import perf_counter
from typing import Any

import numpy as np
from torch import Tensor

from sklearn_torch_gmm.core.device import device_for
from sklearn_torch_gmm.core.m_step import MStepResult
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.em.cycle import Cycle
from sklearn_torch_gmm.em.failures import (
    check_number_of_rows,
    error_from_plain,
    error_to_plain,
    find_unusable,
)
from sklearn_torch_gmm.em.offsets import evenly_spaced
from sklearn_torch_gmm.em.progress import Monitor
from sklearn_torch_gmm.em.settings import FitSettings
from sklearn_torch_gmm.em.start_gaps import fill_gaps
from sklearn_torch_gmm.em.strategies import sample_of, shared_starts
from sklearn_torch_gmm.em.threads import threads_for_work
from sklearn_torch_gmm.rows.source import RowSource


@dataclass
class Restart:
    """One run of EM from one initialization."""

    parameters: MixtureParameters
    """One mixture, ``[1, ...]``, after the last M-step from a point that was not rejected."""
    lower_bounds: list[float] = field(default_factory=list)
    """The bound at each iteration, in nats: for EM, the mean log-likelihood before the M-step. A
    pass from an extrapolated point that is rejected repeats the last one."""
    converged: bool = False
    empty: set[int] = field(default_factory=set)
    """Components that lost all their rows."""
    fall: list[float] = field(default_factory=list)
    """The first two consecutive mean log-likelihoods that fall by more than rounding and
    regularization explain; empty if there are no such two."""
    error: ValueError | None = None
    """Why this restart was dropped, if it was."""
    log_likelihood: float = math.nan
    """Mean of log p(x) over the rows under `parameters`, in nats, if a last pass computed it."""
    certainty: float = math.nan
    """Mean of log max_k r_k in the same way."""
    seconds: float = 0.0
    """Its share of the time of the initializations and the passes over the data."""
    cycle: Cycle | None = None
    """The state of the acceleration, if any, after the first pass."""

    @property
    def lower_bound(self) -> float:
        """The last bound; minus infinity before the first iteration."""
        return self.lower_bounds[-1] if self.lower_bounds else -math.inf

    @property
    def is_extrapolated(self) -> bool:
        """Whether the next pass starts from a point other than the parameters, and checks it."""
        return self.cycle is not None and self.cycle.extrapolated is not None

    @property
    def next_point(self) -> MixtureParameters:
        """Parameters from which the next pass starts."""
        if self.cycle is not None and self.cycle.extrapolated is not None:
            return self.cycle.extrapolated
        return self.parameters

    def to_plain(self) -> dict[str, Any]:
        """Return tensors and plain values that a checkpoint can hold."""
        return {
            **vars(self),
            "parameters": self.parameters.to_plain(),
            "empty": sorted(self.empty),
            "error": error_to_plain(self.error),
            "cycle": None if self.cycle is None else self.cycle.to_plain(),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], settings: FitSettings) -> Restart:
        """Return the inverse of :meth:`to_plain`, for a restart of a fit with these settings."""
        converted = {
            "parameters": settings.estimation.parameters_type.from_plain(plain["parameters"]),
            "empty": set(plain["empty"]),
            "error": error_from_plain(plain["error"]),
            "cycle": None if plain["cycle"] is None else Cycle.from_plain(plain["cycle"]),
        }
        return cls(**{**plain, **converted})


@dataclass(frozen=True)
class Starts:
    """The restarts of each fit before the first iteration, in float64 on the CPU."""

    restarts: list[list[Restart]]
    centre: Tensor
    """A point ``[D]`` near the middle of the data."""
    max_deviations: Tensor
    """Maximum absolute deviations ``[D]`` from the centre, over evenly spaced rows."""
    are_of_all: bool = False
    """Whether these rows are all there are, and each pass reads the same."""
    num_rows: float = math.inf
    """N; infinity if it is unknown."""


OPERATIONS_ON_SEEN = 4
"""Operations on each value of the rows of which the middle and the maximum deviations are found:
a sum, a difference, its magnitude and a maximum."""


def find_starts(
    rows: RowSource, fits: Sequence[FitSettings], monitor: Monitor | None = None
) -> Starts:
    """Draw the initializations of each fit in turn.

    The fits are to the same rows, with one `random_state`. Each number of components begins with
    the same random numbers, as it would in a fit of its own; fits that differ only in their
    covariances share the assignments of rows to components.

    Raises
    ------
    ValueError
        If there are fewer rows than components, or if an array has values for rows without order.
    IllDefinedCovarianceError
        If a covariance is not positive definite after regularization, unless the fit continues
        without the restart.
    """
    components = max(settings.num_components for settings in fits)
    data = rows.starting_rows(
        components,
        fits[0].random,
        always_samples=fits[0].start.always_samples or _computes_elsewhere(fits[0]),
    )
    if fits[0].loop.missing:
        data = fill_gaps(data, are_all=len(data.rows) == rows.num_rows)
    # The length of a stream is known only now.
    check_number_of_rows(len(data.rows), components, fits[0].components_name)
    start = fits[0].start
    if not rows.has_order and isinstance(start.strategy, np.ndarray) and not start.is_complete:
        msg = (
            "An array as initialization has a value for each sample in turn, but the DataLoader "
            "shuffles them: pass one with shuffle=False."
        )
        raise ValueError(msg)
    fits = [_knowing(rows, fit) for fit in fits]
    sample = sample_of(data)
    restarts: list[list[Restart]] = [[] for _ in fits]
    draws = list(_draws(fits))
    if monitor is not None:
        monitor.starts(len(draws))
    begin = perf_counter()
    with closing(shared_starts(data, sample, [alike for _, alike in draws])) as starts:
        for (positions, alike), found in zip(draws, starts, strict=True):
            for position, restart in zip(positions, _restarts(found, alike), strict=True):
                restarts[position].append(restart)
            if monitor is not None:
                monitor.start_found()
    # Initializations that run in parallel have no separate times.
    seconds = (perf_counter() - begin) / sum(map(len, restarts))
    for own in restarts:
        for restart in own:
            restart.seconds = seconds
    raise_if_all_failed(restarts)
    seen = evenly_spaced(sample.rows)
    with threads_for_work(OPERATIONS_ON_SEEN * seen.numel()):
        centre = sample.middle
        max_deviations = (seen - centre).abs().amax(0)
    is_whole = rows.is_in_memory and len(seen) == rows.num_rows and not fits[0].loop.missing
    num_rows = math.inf if rows.num_rows is None else rows.num_rows
    return Starts(restarts, centre, max_deviations, is_whole, num_rows)


def _knowing(rows: RowSource, settings: FitSettings) -> FitSettings:
    """Return settings with the values that the estimation takes from the data, if any."""
    estimation = settings.estimation.knowing(rows, settings.structure, settings.loop)
    if estimation is settings.estimation:
        return settings
    return replace(settings, estimation=estimation)


def _computes_elsewhere(settings: FitSettings) -> bool:
    """Whether an initialization from all rows would leave an accelerator idle."""
    # Labels and responsibilities are given for all rows.
    is_drawn = isinstance(settings.start.strategy, str)
    return is_drawn and device_for(settings.loop.trainer_params).type != "cpu"


def _draws(fits: Sequence[FitSettings]) -> Iterator[tuple[list[int], list[FitSettings]]]:
    """Yield the positions and settings of the fits that share an initialization."""
    by_size: dict[int, list[int]] = {}
    for position, settings in enumerate(fits):
        by_size.setdefault(settings.num_components, []).append(position)
    for number, positions in enumerate(by_size.values()):
        alike = [fits[position] for position in positions]
        if number > 0:
            random = fits[0].random.copy()
            alike = [replace(fit, random=random) for fit in alike]
        yield from repeat((positions, alike), alike[0].num_init)


def _restarts(
    found: list[MStepResult] | ValueError, alike: Sequence[FitSettings]
) -> Iterator[Restart]:
    if isinstance(found, ValueError):
        yield from (Restart(MixtureParameters.none(), error=found) for _ in alike)
        return
    for result, settings in zip(found, alike, strict=True):
        failure = find_unusable(result, settings).get(0)
        if failure is not None and not settings.records_failures:
            raise failure
        yield Restart(result.parameters, error=failure)


def raise_if_all_failed(restarts: Sequence[Sequence[Restart]]) -> None:
    """Raise the error of the first restart if all of them have failed."""
    errors = [restart.error for own in restarts for restart in own]
    if errors[0] is not None and None not in errors:
        raise errors[0]
