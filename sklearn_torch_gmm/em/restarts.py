"""All starts of a fit, and what the loop has to know of the data before its first pass."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import repeat
from time import perf_counter
from typing import Any, Protocol

from torch import Tensor

from sklearn_torch_gmm.core.m_step import MStepResult
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.em.failures import (
    check_number_of_rows,
    error_from_plain,
    error_to_plain,
    find_unusable,
)
from sklearn_torch_gmm.em.settings import FitSettings
from sklearn_torch_gmm.em.strategies import sample_of, shared_starts
from sklearn_torch_gmm.rows.source import RowSource


@dataclass
class Restart:
    """What becomes of one start.

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
    error : ValueError or None
        Why it takes no further part.
    log_likelihood, certainty : float
        Means of log p(x) and log max_k r_k over the rows under the parameters, in nats, where they
        were asked for.
    seconds : float
        Its share of the time that the starts and the passes over the data took.
    """

    parameters: MixtureParameters
    lower_bounds: list[float] = field(default_factory=list)
    converged: bool = False
    empty: set[int] = field(default_factory=set)
    fall: list[float] = field(default_factory=list)
    error: ValueError | None = None
    log_likelihood: float = math.nan
    certainty: float = math.nan
    seconds: float = 0.0

    @property
    def lower_bound(self) -> float:
        """The last mean log-likelihood; minus infinity before the first iteration."""
        return self.lower_bounds[-1] if self.lower_bounds else -math.inf

    def to_plain(self) -> dict[str, Any]:
        """Return tensors and plain values, as a checkpoint can hold them."""
        return {
            **vars(self),
            "parameters": self.parameters.tensors(),
            "empty": sorted(self.empty),
            "error": error_to_plain(self.error),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Restart:
        """Return the inverse of :meth:`to_plain`."""
        return cls(
            **{
                **plain,
                "parameters": MixtureParameters(*plain["parameters"]),
                "empty": set(plain["empty"]),
                "error": error_from_plain(plain["error"]),
            }
        )


@dataclass(frozen=True)
class Starts:
    """Where EM begins.

    Attributes
    ----------
    restarts : list of list of Restart
        For each member its starts; the parameters are float64, on the CPU.
    centre : Tensor [D]
        A point near the middle of the data.
    extents : Tensor [D]
        Distances from it that rows are known to reach in each feature.
    """

    restarts: list[list[Restart]]
    centre: Tensor
    extents: Tensor


class SweepProgress(Protocol):
    """Is told how the fit of many mixtures goes."""

    def fits_done(self, restarts: Mapping[int, Sequence[Restart]]) -> None:
        """Tell what became of the starts of all members that are done, by their position."""


def find_starts(rows: RowSource, members: Sequence[FitSettings]) -> Starts:
    """Draw the starts of each member, one after another.

    Parameters
    ----------
    rows : RowSource
    members : sequence of FitSettings
        Fits to the same rows, with one `random_state`. Each number of components begins with the
        same random numbers, as it would by itself; members that differ in their covariances alone
        share the assignments of rows to components.

    Raises
    ------
    ValueError
        If there are fewer rows than components.
    IllDefinedCovarianceError
        If a covariance is not positive definite after regularization, unless the fit goes on
        without the start.
    """
    random_state = members[0].random_state
    components = max(member.num_components for member in members)
    data = rows.starting_rows(components, random_state)
    # A stream tells its length only now.
    check_number_of_rows(len(data.rows), components, members[0].components_name)
    sample = sample_of(data)
    centre = sample.middle()
    restarts: list[list[Restart]] = [[] for _ in members]
    draws = list(_draws(members))
    begin = perf_counter()
    with closing(shared_starts(data, [alike for _, alike in draws])) as starts:
        for (positions, alike), found in zip(draws, starts, strict=True):
            for position, restart in zip(positions, _restarts(found, alike), strict=True):
                restarts[position].append(restart)
    # Starts that are found side by side have no time of their own.
    seconds = (perf_counter() - begin) / sum(map(len, restarts))
    for member_restarts in restarts:
        for restart in member_restarts:
            restart.seconds = seconds
    raise_if_all_failed(restarts)
    extents = (sample.evenly_spaced() - centre).abs().amax(0)
    return Starts(restarts, centre, extents)


def _draws(members: Sequence[FitSettings]) -> Iterator[tuple[list[int], list[FitSettings]]]:
    """The positions and settings of the members that share a start, start after start."""
    by_size: dict[int, list[int]] = {}
    for position, member in enumerate(members):
        by_size.setdefault(member.num_components, []).append(position)
    for number, positions in enumerate(by_size.values()):
        random_state = members[0].random_state
        if number > 0:
            random_state = deepcopy(random_state)
        alike = [replace(members[position], random_state=random_state) for position in positions]
        yield from repeat((positions, alike), alike[0].num_init)


def _restarts(
    found: list[MStepResult] | ValueError, members: Sequence[FitSettings]
) -> Iterator[Restart]:
    if isinstance(found, ValueError):
        yield from (Restart(MixtureParameters.none(), error=found) for _ in members)
        return
    for result, settings in zip(found, members, strict=True):
        failure = find_unusable(result, settings).get(0)
        if failure is not None and not settings.goes_on_without:
            raise failure
        yield Restart(result.parameters, error=failure)


def raise_if_all_failed(restarts: Sequence[Sequence[Restart]]) -> None:
    """Raise the error of the first start if no start is left."""
    errors = [restart.error for member in restarts for restart in member]
    if errors[0] is not None and None not in errors:
        raise errors[0]
