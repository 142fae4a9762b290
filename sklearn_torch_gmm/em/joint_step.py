"""One M-step for all fits of a sweep that differ only in their numbers of components.

On few rows, an M-step takes as long for one small mixture as for a hundred. Mixtures become equally
large if the smaller ones repeat their first component with a weight below the rounding error: what
is estimated from all components, such as a shared covariance, stays the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_torch_gmm.core.m_step import MStepResult
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.em.fit import Fit
from sklearn_torch_gmm.em.mixtures import Mixtures
from sklearn_torch_gmm.em.report import StepReport

MOST_NUMBERS = 2**15
"""Number of moments up to which the M-steps of several fits are done together.

A fit that has converged keeps the results of all in memory, a few times 256 KiB. With more numbers,
computing them takes longer than calling the operations.
"""

SHARE_OF_COPIES = 2.0**-60
"""Weight of a repeated component as a part of that of the first: a hundred copies weigh less than
half the rounding error of a double-precision number."""


def m_steps(fits: Sequence[Fit], moments: Sequence[Moments]) -> list[Tensor]:
    """Do the M-step of each fit; return the vectors of their step reports."""
    if len(fits) == 1:
        return [fits[0].m_step(moments[0])]
    by_structure: dict[str, list[int]] = {}
    for place, (fit, own) in enumerate(zip(fits, moments, strict=True)):
        if fit.can_join and own.gap_scatter is None:
            by_structure.setdefault(fit.settings.structure.name, []).append(place)
    reports: dict[int, Tensor] = {}
    for places in by_structure.values():
        alike = [moments[place] for place in places]
        if len(places) > 1 and sum(own.sums.numel() for own in alike) <= MOST_NUMBERS:
            reports.update(zip(places, _together([fits[i] for i in places], alike), strict=True))
    return [
        reports[place] if place in reports else fit.m_step(own)
        for place, (fit, own) in enumerate(zip(fits, moments, strict=True))
    ]


def _together(fits: Sequence[Fit], moments: Sequence[Moments]) -> Iterator[Tensor]:
    """Do the M-steps of fits of one structure as one, and yield their reports."""
    first, settings, scatter = fits[0], fits[0].settings, moments[0].scatter
    structure, estimation, centre = settings.structure, settings.estimation, first.mixtures.centre
    sizes = tuple(own.counts.shape for own in moments)
    layout = _layout(sizes, centre.device)
    sums = layout.padded([own.sums for own in moments])
    fewest = sums[..., 0].amin(-1)
    sums *= layout.shares
    before = [fit.mixtures.parameters for fit in fits]
    means = layout.padded([own.means for own in before])
    log_likelihoods = torch.cat([own.log_likelihood for own in moments])
    if scatter is not None:
        factors = torch.cat([own.precisions_cholesky for own in before])
        log_likelihoods += structure.common_log_likelihood(factors, scatter)
    rare_cases = any(fit.handles_rare_cases for fit in fits)
    joined = Moments(sums, log_likelihoods, scatter)
    result = estimation.m_step(
        joined,
        centre,
        estimation.before_data(means, structure),
        structure,
        settings.regularization,
        rare_cases=rare_cases,
    )
    mixtures = Mixtures([], structure, centre, has_natural=True)
    mixtures.update(result.parameters)
    errors = first.accuracy.errors(mixtures, may_vanish=rare_cases)
    usable = result.usable.all(-1)
    bounds = log_likelihoods / joined.total
    # A fast pass has no drifts apart from the errors.
    numbers = StepReport.pack(bounds, errors, errors, usable.to(errors), fewest)
    reports = numbers.view(-1, len(bounds)).split([restarts for restarts, _ in sizes], 1)
    for fit, own, (found, natural), report in zip(
        fits,
        moments,
        layout.parts(result, mixtures.natural, structure.is_shared),
        reports,
        strict=True,
    ):
        fit.take(own, found, natural)
        yield report.flatten()


class _Layout(NamedTuple):
    """The places of mixtures ``[R, K]`` of several sizes in one batch ``[M, L]`` of equal sizes."""

    sizes: tuple[tuple[int, int], ...]
    """R and K of each fit."""
    sources: Tensor
    """The component that each place holds, ``[M L]``, numbered over all fits."""
    shares: Tensor
    """``[M, L, 1]``: one, and :data:`SHARE_OF_COPIES` for copies of a mixture's first component."""
    places: Tensor
    """The place of each component, ``[Σ R K]``."""

    def padded(self, values: Sequence[Tensor]) -> Tensor:
        """Return values ``[R, K, ...]`` of all fits as ``[M, L, ...]``."""
        joined = torch.cat([own.flatten(0, 1) for own in values])
        return joined[self.sources].view(*self.shares.shape[:2], *joined.shape[1:])

    def parts(
        self, result: MStepResult, natural: Tensor, is_shared: bool
    ) -> Iterator[tuple[MStepResult, Tensor]]:
        """Yield the result and the natural parameters of each fit, as views."""
        restarts = [number for number, _ in self.sizes]
        of_each = natural.flatten(0, 1)[self.places].split([r * k for r, k in self.sizes])
        values = [*result.parameters.tensors(), result.usable]
        if result.empty is not None:
            values.append(result.empty)
        of_each_fit = zip(*(each.split(restarts) for each in values), strict=True)
        for (number, size), own, parts in zip(self.sizes, of_each, of_each_fit, strict=True):
            weights, means, covariances, factors, *flags = parts
            weights, means = weights[:, :size], means[:, :size]
            if not is_shared:
                covariances, factors = covariances[:, :size], factors[:, :size]
            parameters = MixtureParameters(weights, means, covariances, factors)
            found = MStepResult(parameters, *(flag[:, :size] for flag in flags))
            yield found, own.view(number, size, -1)


@lru_cache(maxsize=64)
def _layout(sizes: tuple[tuple[int, int], ...], device: torch.device) -> _Layout:
    longest = max(components for _, components in sizes)
    sources: list[int] = []
    shares: list[float] = []
    places: list[int] = []
    start = 0
    for restarts, components in sizes:
        copies = longest - components
        for _ in range(restarts):
            places += range(len(sources), len(sources) + components)
            sources += [*range(start, start + components), *[start] * copies]
            shares += [1.0] * components + [SHARE_OF_COPIES] * copies
            start += components
    with torch.inference_mode(mode=False):
        return _Layout(
            sizes,
            torch.tensor(sources, device=device),
            torch.tensor(shares, dtype=torch.float32, device=device).view(-1, longest, 1),
            torch.tensor(places, device=device),
        )
