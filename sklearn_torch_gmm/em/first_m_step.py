"""The first M-step, from an assignment of rows to components."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sklearn_torch_gmm.core.cached_property import cached_property
from sklearn_torch_gmm.core.covariance import FEW_ROWS, CovarianceStructure
from sklearn_torch_gmm.core.fast_step import SMALL_PRODUCT
from sklearn_torch_gmm.core.m_step import MStepResult
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.rounding import rounding_of_sums
from sklearn_torch_gmm.core.workspace import (
    LEAST_ROWS,
    WIDE_RATIO,
    Workspace,
    in_lanes,
    is_wide,
    subtract_transposed,
)
from sklearn_torch_gmm.em.groups import FEWEST_VALUES_OF_GROUP, Group, groups
from sklearn_torch_gmm.em.offsets import (
    FAR_FOR_SINGLE_ROWS,
    evenly_spaced,
    origin_of,
    weighted_mean,
)
from sklearn_torch_gmm.em.settings import FitSettings
from sklearn_torch_gmm.rows.source import CPU
from sklearn_torch_gmm.rows.tensors import as_tensor

CHUNK_ROWS = 2**14
"""Maximum rows of a chunk: twice as many were no faster for [400k, 4], with twice the memory."""

CHUNK_VALUES = 2**21
"""Maximum number of values computed for a chunk, unless that leaves too few rows. It bounds the
memory of an initialization, 16 MiB, which is proportional to it."""

FEW_STARTING_ROWS = 1000
"""Number of rows below which residuals take no longer than sums about the middle.

With twice the value, the first M-step for 2,000 rows would take a tenth to a seventh more time.
"""

LOSS_OF_SUMS = 2e-12
"""Largest estimate of the relative rounding error of a covariance from sums about the middle.

Values of few digits are all rounded alike when they are added up: the error is then up to some
hundred times the estimate. With twice the value, twice the error comes into the first covariances.
"""


@dataclass(frozen=True)
class Sample:
    """The ``rows [M, D]`` to initialize from, and their ``weights [M]`` in float64."""

    rows: Tensor
    weights: Tensor

    def chunks(self, values_per_row: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield slices of consecutive rows, the rows in float64, and their weights.

        The size of a chunk allows for ``values_per_row`` numbers for each row.
        """
        # With fewer rows than features, writing the sums would be most of the work.
        least = max(LEAST_ROWS, self.rows.shape[1])
        size = max(least, min(CHUNK_ROWS, CHUNK_VALUES // values_per_row))
        for start in range(0, self.rows.shape[0], size):
            place = slice(start, start + size)
            yield place, self.rows[place].double(), self.weights[place]

    @cached_property
    def middle(self) -> Tensor:
        """Return a point ``[D]`` near the middle: the mean of all or of evenly spaced rows."""
        if self.weights.stride(0) > 0:
            chunks = self.chunks(self.rows.shape[1])
            mean = weighted_mean((rows, weights) for _, rows, weights in chunks)
            assert mean is not None, "there are rows"
            return mean
        # All have the same weight, which is stored once.
        return evenly_spaced(self.rows).mean(0)


class Assignment(ABC):
    """The initial component, or the initial responsibilities, of each row."""

    def estimate_all(self, sample: Sample, fits: Sequence[FitSettings]) -> list[MStepResult]:
        """Do an M-step for each of the fits, which differ only in their covariances."""
        return [self.estimate(sample, fit) for fit in fits]

    @abstractmethod
    def estimate(self, sample: Sample, settings: FitSettings) -> MStepResult:
        """Do an M-step from the assignment of the rows."""


@dataclass(frozen=True)
class Labels(Assignment):
    """Each row belongs to one component: ``labels [M]``.

    Given ``means [K, D]`` stay as they are; the covariances are then the scatter about them.
    """

    labels: npt.NDArray[np.integer[Any]]
    means: Tensor | None = None

    def estimate(self, sample: Sample, settings: FitSettings) -> MStepResult:
        (result,) = self.estimate_all(sample, [settings])
        return result

    def estimate_all(self, sample: Sample, fits: Sequence[FitSettings]) -> list[MStepResult]:
        results: list[MStepResult | None] = [None for _ in fits]
        if self.means is None:
            results = [self._from_sums(sample, fit) for fit in fits]
        left = [fit for fit, found in zip(fits, results, strict=True) if found is None]
        exact = iter(self._from_residuals(sample, left) if left else ())
        return [next(exact) if found is None else found for found in results]

    def _from_sums(self, sample: Sample, settings: FitSettings) -> MStepResult | None:
        """Do the M-step from one pass, with moments about the middle; None if those are inexact."""
        structure, components = settings.structure, settings.num_components
        num_rows, num_features = sample.rows.shape
        length = 1 + structure.num_moments(num_features)
        if num_rows < FEW_STARTING_ROWS or is_wide(length, components * num_features):
            return None
        points = sample.middle.expand(components, -1)
        moments = self._moments_about(points, sample, structure)
        if moments.counts.min() < FEW_ROWS:
            return None
        found = _m_step(moments, points, settings)
        own = found.parameters
        away = structure.distance_bounds(own.means - points, own.precisions_cholesky)
        # Not `all(... > ...)`: a bound that is NaN is not tolerated either.
        is_exact = rounding_of_sums(away) <= LOSS_OF_SUMS
        return found if bool((is_exact & found.usable).all()) else None

    def _moments_about(
        self, points: Tensor, sample: Sample, structure: CovarianceStructure
    ) -> Moments:
        """Return the moments about ``points [K, D]``, which are all the same."""
        moments, centre = _empty_moments(points, structure), points[0].unsqueeze(-1)
        components, length = moments.sums.shape[1:]
        labels = as_tensor(self.labels).long()
        workspace = Workspace(torch.float64, CPU)
        num_lanes, sums = workspace.most_lanes(moments.sums, length), moments.sums
        if num_lanes > 1:
            sums = workspace.take_sums(num_lanes, components, length)
        size = workspace.rows_per_chunk(length + components)
        fewest = SMALL_PRODUCT / (components * length)
        for place, lanes in in_lanes(len(labels), size, num_lanes, fewest):
            rows = sample.rows[place].unflatten(0, (lanes, -1))
            features = workspace.take("features", lanes, length, rows.shape[1])
            x = features[:, 1 : len(centre) + 1]
            subtract_transposed(rows, centre, out=x)
            structure.complete_moments(features, len(centre))
            weights = sample.weights[place].view(lanes, 1, -1)
            shares = workspace.take("shares", lanes, components, rows.shape[1]).zero_()
            shares.scatter_(1, labels[place].view(lanes, 1, -1), weights)
            workspace.add_product(sums[:lanes], shares, features)
            if moments.scatter is not None:
                moments.scatter.add_(((x * weights) @ x.mT).sum(0))
        if num_lanes > 1:
            moments.sums.add_(sums.sum(0))
        return moments

    def _from_residuals(self, sample: Sample, fits: Sequence[FitSettings]) -> list[MStepResult]:
        """Do the M-steps without cancellation: the means, then the residuals of all rows."""
        components, structures = fits[0].num_components, [fit.structure for fit in fits]
        sizes = components, sample.rows.shape[1]
        values = components + max(_values_per_row(*sizes, structure) for structure in structures)
        # The groups of many rows are copies, which are not kept for the second pass.
        are_few = sample.rows.numel() < FEWEST_VALUES_OF_GROUP * components
        few = list(self._parts(sample, components, values)) if are_few else None
        means = self.means
        if means is None:
            parts = few or self._parts(sample, components, sum(sizes))
            own = ((group.components, group.shares, group.rows) for group in parts)
            means = _weighted_means(own, components, sample.middle)
        # Only the residual of a row about its own mean, since all other products would be zero.
        moments = [_empty_moments(means, structure) for structure in structures]
        for group in few or self._parts(sample, components, values):
            x, shares = group.residuals(means), group.shares
            # T(x) would be used for one component only.
            ratio = 0.0 if group.is_one_of_many else WIDE_RATIO
            for sums, structure in zip(moments, structures, strict=True):
                _add(sums.of(group.components), x, shares, group.weights, structure, ratio)
        if self.means is not None:
            # Given means stay, so the shift to the mean of the rows is part of the scatter.
            for sums in moments:
                sums.first(means.shape[1]).zero_()
        return [_m_step(sums, means, fit) for sums, fit in zip(moments, fits, strict=True)]

    def _parts(self, sample: Sample, num_components: int, values_per_row: int) -> Iterator[Group]:
        labels = as_tensor(self.labels).long()
        for place, rows, weights in sample.chunks(values_per_row):
            yield from groups(labels[place], rows, weights, num_components)


@dataclass(frozen=True)
class SingleRows(Assignment):
    """Each component has one row of ``indices [K]``; the other rows are not assigned."""

    indices: npt.NDArray[np.integer[Any]]

    def estimate(self, sample: Sample, settings: FitSettings) -> MStepResult:
        structure = settings.structure
        # scikit-learn's formulas expand squares about the origin.
        origin = as_tensor(origin_of(sample.rows.numpy(), FAR_FOR_SINGLE_ROWS)).double()
        chosen = sample.rows[as_tensor(self.indices)].double() - origin
        # As in scikit-learn, which adds 10 eps to every weight so as not to divide by zero.
        count = 1.0 + 10 * torch.finfo(torch.float64).eps
        scatter = None
        if structure.has_pooled_scatter:
            # scikit-learn initializes the shared covariance from all rows, about the origin.
            scatter = chosen.new_zeros(chosen.shape[1], chosen.shape[1])
            for _, rows, weights in sample.chunks(chosen.shape[1]):
                rows = rows - origin
                scatter.addmm_((rows * weights.unsqueeze(-1)).T, rows)
            # Each of the chosen rows is taken out as one row, of which it may be only a part.
            lacking = (1.0 - sample.weights[as_tensor(self.indices)]).clamp_min_(0.0)
            scatter.addmm_((chosen * lacking.unsqueeze(-1)).T, chosen)
        covariances = structure.single_row_covariances(chosen, count, scatter).unsqueeze(0)
        means = chosen / count + origin
        moments = _empty_moments(means, structure)
        moments.counts.fill_(count)
        second = structure.second_moments_of(covariances, moments.counts, means.shape[1])
        if moments.scatter is None:
            moments.second(means.shape[1]).copy_(second)
        else:
            moments.scatter.copy_(second)
        # The covariances already include the rounding.
        regularization = replace(settings.regularization, keep_rounding=False)
        settings = replace(settings, regularization=regularization)
        return _m_step(moments, means, settings, total_weight=sample.weights.sum().item())


class RandomResponsibilities(Assignment):
    """Each row belongs to every component by a random share.

    The shares ``[M, K]`` are never stored: they are drawn again for each estimate.
    """

    def __init__(self, random_state: np.random.RandomState) -> None:
        self.random_state = random_state
        self._before = random_state.get_state(legacy=False)

    def estimate(self, sample: Sample, settings: FitSettings) -> MStepResult:
        structure, components = settings.structure, settings.num_components
        self.random_state.set_state(self._before)
        # Random shares put all means near the middle, so one centre is sufficient.
        centre = sample.middle
        means = centre.expand(components, -1)
        moments = _empty_moments(means, structure)
        values = components + _values_per_row(components, len(centre), structure)
        for _, rows, weights in sample.chunks(values):
            size = rows.shape[0], components
            shares = torch.from_numpy(self.random_state.uniform(size=size))
            shares *= (weights / shares.sum(1)).unsqueeze(-1)
            _add(moments, (rows - centre).T, shares.T, weights, structure)
        return _m_step(moments, means, settings)


@dataclass(frozen=True)
class Responsibilities(Assignment):
    """Each row belongs to every component by a given share: ``shares [M, K]``."""

    shares: npt.NDArray[np.floating[Any]]

    def estimate(self, sample: Sample, settings: FitSettings) -> MStepResult:
        structure, components = settings.structure, settings.num_components
        shares = as_tensor(self.shares).double()
        num_features = sample.rows.shape[1]
        parts = (
            (slice(None), shares[place].T * weights, rows)
            for place, rows, weights in sample.chunks(components + num_features)
        )
        means = _weighted_means(parts, components, sample.middle)
        moments = _empty_moments(means, structure)
        for place, rows, weights in sample.chunks(means.numel()):
            residuals = (rows.T - means.unsqueeze(-1)).unsqueeze(0)
            responsibilities = (shares[place].T * weights).unsqueeze(0)
            moments.counts.add_(responsibilities.sum(-1))
            second = structure.centred_second_moments(residuals, responsibilities)
            if moments.scatter is None:
                moments.second(num_features).add_(second)
            else:
                moments.scatter.add_(second)
        return _m_step(moments, means, settings)


def _m_step(
    moments: Moments, means: Tensor, settings: FitSettings, *, total_weight: float | None = None
) -> MStepResult:
    """Do an M-step from moments about ``means [K, D]``.

    The ``total_weight`` of all rows is given if the moments are sums over some of them.
    """
    means, structure = means.unsqueeze(0), settings.structure
    estimation = settings.estimation.of_start()
    return estimation.m_step(
        moments,
        means,
        estimation.before_data(means, structure),
        structure,
        settings.regularization,
        # Handling them is a third of the operations.
        rare_cases=bool(moments.counts.min() < FEW_ROWS),
        total_weight=total_weight,
    )


def _weighted_means(
    parts: Iterable[tuple[slice, Tensor, Tensor]], num_components: int, middle: Tensor
) -> Tensor:
    """Return means ``[K, D]`` of the rows; the middle for empty components.

    The ``parts`` are components, the weighted shares ``[k, n]`` that rows have in them, and the
    rows ``[n, D]``. The means are exact to the rounding of the largest row; the moments about them
    correct the rest.
    """
    # About zero, since about the middle a distant row would cost the others their precision.
    sums = middle.new_zeros(num_components, middle.shape[0])
    counts = middle.new_zeros(num_components, 1)
    for components, shares, rows in parts:
        sums[components].addmm_(shares, rows)
        counts[components].add_(shares.sum(1, keepdim=True))
    return torch.where(counts > 0, sums / counts, middle)


def _empty_moments(means: Tensor, structure: CovarianceStructure) -> Moments:
    components, num_features = means.shape
    length = 1 + structure.num_moments(num_features)
    scatter = None
    if structure.has_pooled_scatter:
        scatter = means.new_zeros(1, num_features, num_features)
    return Moments(means.new_zeros(1, components, length), means.new_zeros(1), scatter)


def _values_per_row(num_components: int, num_features: int, structure: CovarianceStructure) -> int:
    """Return how many numbers :func:`_add` writes for a row."""
    length, residuals = structure.num_moments(num_features), num_components * num_features
    return residuals if is_wide(length, residuals) else length


def _add(
    moments: Moments,
    x: Tensor,
    shares: Tensor,
    weights: Tensor,
    structure: CovarianceStructure,
    ratio: float = WIDE_RATIO,
) -> None:
    """Add residuals ``x [D, n]`` with ``weights [n]`` and weighted ``shares [K, n]``.

    T(x) is written unless it is ``ratio`` times as large as the residuals of all components.
    """
    num_features, num_rows = x.shape
    length = structure.num_moments(num_features)
    if moments.scatter is None and is_wide(length, shares.shape[0] * num_features, ratio=ratio):
        moments.counts.add_(shares.sum(1))
        moments.first(num_features).add_(shares @ x.T)
        moments.second(num_features).add_(structure.centred_second_moments(x[None], shares))
    else:
        features = x.new_empty(1 + length, num_rows)
        features[1 : num_features + 1] = x
        structure.complete_moments(features, num_features)
        moments.sums[0].addmm_(shares, features.T)
    if moments.scatter is not None:
        moments.scatter[0].addmm_(x * weights, x.T)
