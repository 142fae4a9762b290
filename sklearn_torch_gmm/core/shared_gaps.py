"""Rows with gaps under components that share one covariance matrix, in O(D² + K D) each.

Let x be a row about the centre, with zeros for gaps, and η_k = Λ (μ_k − c). With h = x − W (Λ x)_u
at the missing features u, which no component enters, the conditional means are x̂_k = h + w_k,
where w_k = W η_ku depends on the component and on the pattern of the gaps. So

    log p_k(x_o)    =  η_k · h  +  a constant of the pattern and the component  −  ½ hᵀ Λ h
    Σ_k r x̂_k x̂_kᵀ  =  h hᵀ + h ω̄ᵀ + ω̄ hᵀ + Σ_k r w_k w_kᵀ,  with ω̄ = Σ_k r w_k = W (Σ_k r η_k)_u

and the sums over w_k are taken pattern by pattern. If rows lack one value each, W has one entry,
1 / Λ_jj: all of this is elementwise with g / diag Λ, where g is 1 for the gap, and zero elsewhere.

With features that are nearly multiples of each other, the terms of W η_ku are much larger than w_k.
It is computed as m + W (η_ku − Λ_uu m) with m = (μ_k − c)_u, which cancels before it multiplies W.

Expanding the square costs precision where the spread is large relative to the standard deviations,
as in the fast E-step, whose bound decides.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sklearn_torch_gmm.core.conditional import Conditionals
from sklearn_torch_gmm.core.covariance.base import LOG_2PI
from sklearn_torch_gmm.core.dependent_gaps import GroupedGapStep
from sklearn_torch_gmm.core.fast_step import FastEStep
from sklearn_torch_gmm.core.gap_chunks import GapChunk, among
from sklearn_torch_gmm.core.gap_step import GapBatch
from sklearn_torch_gmm.core.gaps import GapGroup
from sklearn_torch_gmm.core.rounding import extents_of

CACHED_VALUES = 2**16
"""Number of products up to which all products of small matrices are found at once, and then summed.

They take half a MiB. With twice the value an iteration takes no less time; with more, they leave
the cache of a core, and it takes more.
"""


class SharedGapStep(GroupedGapStep):
    """Adds rows with gaps to a fast E-step of components that share one covariance matrix."""

    _step: FastEStep

    def renew(self) -> None:
        super().renew()
        own, natural = self._step.parameters, self._step.natural
        # The constants of complete rows, and the coefficients η.
        self._constants, self._linear = natural[..., :1], natural[..., 1:]
        self._means = own.means - self._step.centre
        self._precisions = self._step.structure.precisions(own.precisions_cholesky)

    def _values_per_row(self, group: GapGroup) -> int:
        restarts, components, features = self._step.parameters.means.shape
        size, patterns = group.missing.shape
        values = 6 * features + 3 * components + size * size
        of_pattern = components * size * (5 + size)
        return restarts * (values + math.ceil(of_pattern * patterns / len(group.rows)))

    def _add_chunk(self, chunk: GapChunk, batch: GapBatch) -> None:
        x = chunk.deviations_of(batch.rows, self._step.centre)
        if self._extents is not None:
            torch.maximum(self._extents, extents_of(x), out=self._extents)
        if chunk.lacks_one:
            self._add_single_gaps(x, chunk, batch)
        else:
            self._add_gaps(x, chunk, batch)

    def _add_gaps(self, x: Tensor, chunk: GapChunk, batch: GapBatch) -> None:
        """Add the moments of rows ``x [T, D, n]``."""
        moments, features, parts = self._step.moments, x.shape[1], self._parts(x)
        linear, means, precisions = (
            parts.of_mixtures(values) for values in (self._linear, self._means, self._precisions)
        )
        x, gaps, place = map(parts.of_lanes, (x, chunk.gaps(x), chunk.missing_by_row))
        patterns = _Patterns(self._constants, self._linear, self._means, self._conditionals, chunk)
        covariances = chunk.by_row(patterns.covariances).flatten(0, 1)
        constants = chunk.by_row(patterns.constants).flatten(0, 1)
        pulled = torch.bmm(precisions, x).gather(1, place)
        h = x.scatter_add(1, place, _times(covariances, pulled).neg_())
        logits = torch.baddbmm(constants, linear, h)
        by_mixture = parts.split(logits)
        weights = self._weigh(by_mixture, batch, chunk)
        weighted = h if weights is None else h * parts.of_lanes(weights).unsqueeze(1)

        moments.counts.add_(by_mixture.sum((0, -1)))
        first = parts.split(torch.bmm(logits, h.mT))
        # ω̄ in the way of w.
        mean_shift = torch.bmm(means.mT, logits).mul_(gaps)
        rest = torch.bmm(linear.mT, logits).baddbmm_(precisions, mean_shift, alpha=-1.0)
        mean_shift.scatter_add_(1, place, _times(covariances, rest.gather(1, place)))
        # h hᵀ and twice h ω̄ᵀ in one product. The estimate takes the symmetric part of a scatter.
        shifted = torch.add(weighted, mean_shift, alpha=2.0)
        scatter = parts.split(torch.bmm(shifted, h.mT))
        self._add_common_term(scatter)
        patterns.add(chunk.by_pattern(by_mixture), first, scatter)
        moments.first(features).add_(first.sum(0))
        self._add_second(scatter.sum(0))

    def _add_single_gaps(self, x: Tensor, chunk: GapChunk, batch: GapBatch) -> None:
        """Add the moments of rows ``x [T, D, n]`` that lack one value each."""
        moments, features, parts = self._step.moments, x.shape[1], self._parts(x)
        constants, linear, precisions = (
            parts.of_mixtures(values)
            for values in (self._constants, self._linear, self._precisions)
        )
        x, gaps = parts.of_lanes(x), parts.of_lanes(chunk.gaps(x))
        diagonals = precisions.diagonal(dim1=-2, dim2=-1)
        by_component = diagonals.unsqueeze(1)
        # η · w, and with it what log p differs by from that of a complete row; both twice.
        squares = linear.square() / by_component
        terms = squares + (LOG_2PI - by_component.log())
        variances = gaps / diagonals.unsqueeze(-1)
        h = torch.addcmul(x, variances, torch.bmm(precisions, x), value=-1.0)
        logits = torch.baddbmm(constants, linear, h).baddbmm_(terms, gaps, alpha=0.5)
        by_mixture = parts.split(logits)
        weights = self._weigh(by_mixture, batch, chunk)
        weighted = h if weights is None else h * parts.of_lanes(weights).unsqueeze(1)

        moments.counts.add_(by_mixture.sum((0, -1)))
        shares = torch.bmm(logits, gaps.mT) / by_component
        first = torch.bmm(logits, h.mT).addcmul_(linear, shares)
        moments.first(features).add_(parts.sum_over_lanes(first))
        mean_shift = torch.bmm(linear.mT, logits).mul_(variances)
        scatter = torch.bmm(torch.add(weighted, mean_shift, alpha=2.0), h.mT)
        self._add_common_term(parts.split(scatter))
        # Σ r (w wᵀ + W)
        scatter.diagonal(dim1=-2, dim2=-1).add_(torch.addcmul(shares, shares, squares).sum(1))
        self._add_second(parts.sum_over_lanes(scatter))

    def _parts(self, x: Tensor) -> _Parts:
        return _Parts(x.shape[0], self._linear.shape[0])

    def _add_common_term(self, scatter: Tensor) -> None:
        """Add −½ Σ hᵀ Λ h to the log-likelihood, from Σ (h + 2 ω̄) hᵀ ``[T, R, D, D]``.

        Λ h is zero where values are missing, and ω̄ elsewhere: ω̄ᵀ Λ h = 0.
        """
        common = (scatter * self._precisions).sum((0, -2, -1))
        self._step.moments.log_likelihood.sub_(common, alpha=0.5)


class _Parts(NamedTuple):
    """The mixtures in each lane, along one axis of T R matrices, whose products are the fastest."""

    lanes: int
    mixtures: int

    def of_lanes(self, values: Tensor) -> Tensor:
        """``values [T, ...]`` for each mixture: ``[T R, ...]``."""
        return values if self.mixtures == 1 else self._repeated(values, 1)

    def of_mixtures(self, values: Tensor) -> Tensor:
        """``values [R, ...]`` for each lane: ``[T R, ...]``."""
        return values if self.lanes == 1 else self._repeated(values, 0)

    def split(self, values: Tensor) -> Tensor:
        """``values [T R, ...]`` as ``[T, R, ...]``."""
        return values.view(self.lanes, self.mixtures, *values.shape[1:])

    def sum_over_lanes(self, values: Tensor) -> Tensor:
        """Sum ``values [T R, ...]`` of each mixture: ``[R, ...]``."""
        return values if self.lanes == 1 else self.split(values).sum(0)

    def _repeated(self, values: Tensor, dim: int) -> Tensor:
        return values.unsqueeze(dim).expand(*self, *values.shape[1:]).flatten(0, 1)


class _Patterns:
    """The patterns of a chunk: their W ``[T, R, c, c, p]`` and their w_k ``[T, R, K, c, p]``."""

    def __init__(
        self,
        constants: Tensor,
        linear: Tensor,
        means: Tensor,
        conditionals: Conditionals,
        chunk: GapChunk,
    ) -> None:
        self._chunk = chunk
        lanes = len(chunk.missing)
        covariances, log_determinants = conditionals.covariances_of(chunk)
        self.covariances = covariances.squeeze(-4)
        own, of_means = (
            chunk.at_missing(values.expand(lanes, *values.shape)) for values in (linear, means)
        )
        if chunk.padding is not None:
            of_means = of_means.masked_fill(among(chunk.padding, 2), 0.0)
        rest = own - _times(conditionals.blocks_of(chunk), of_means)
        self._shifts = of_means + _times(covariances, rest)
        # Constants [T, R, K, p] of the log-densities: ½ η_u · w more than those of complete rows,
        # and the normalization of the values that there are.
        more = (own * self._shifts).sum(-2).sub_(log_determinants).add_(chunk.log_volumes(linear))
        self.constants = torch.add(constants, more, alpha=0.5)

    def add(self, shares: Tensor, first: Tensor, scatter: Tensor) -> None:
        """Add Σ r w to ``first [T, R, K, D]`` and Σ r (w wᵀ + W) to ``scatter [T, R, D, D]``.

        ``shares [T, R, K, p]`` are the sums of the responsibilities for each pattern.
        """
        weighted = self._shifts * shares.unsqueeze(-2)
        self._chunk.add_at_missing(first, weighted)
        blocks = self.covariances * shares.sum(-2).unsqueeze(-2).unsqueeze(-2)
        size = weighted.shape[-2]
        # Some rows at a time: all products at once would not stay in a cache.
        most = min(size, max(1, CACHED_VALUES // weighted.numel()))
        for start in range(0, size, most):
            rows = slice(start, start + most)
            products = weighted[..., rows, None, :] * self._shifts.unsqueeze(-3)
            blocks[..., rows, :, :] += products.sum(-4)
        self._chunk.add_at_places(scatter.view(*scatter.shape[:-2], -1), blocks)


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Products of symmetric ``matrices [..., c, c, n]`` and ``vectors [..., c, n]``."""
    size = matrices.shape[-3]
    if size * vectors.numel() <= CACHED_VALUES:
        return (matrices * vectors.unsqueeze(-3)).sum(-2)
    # By column: all products at once would not stay in a cache.
    products = matrices.select(-3, 0) * vectors[..., :1, :]
    for j in range(1, size):
        products.addcmul_(matrices.select(-3, j), vectors[..., j : j + 1, :])
    return products
