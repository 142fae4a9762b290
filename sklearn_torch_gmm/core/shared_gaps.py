"""Rows with gaps under components that share one covariance matrix, in O(D² + K D) each.

Let x be a row about the centre, with zeros for gaps, and η_k = Λ (μ_k − c). With h = x − W (Λ x)_u
at the missing features u, which no component enters, the conditional means are x̂_k = h + w_k,
where w_k = W η_ku depends on the component and on the pattern of the gaps. So

    log p_k(x_o)    =  η_k · h  +  a constant of the pattern and the component  +  a term of the row
    Σ_k r x̂_k x̂_kᵀ  =  h hᵀ + h ω̄ᵀ + ω̄ hᵀ + Σ_k r w_k w_kᵀ,  with ω̄ = Σ_k r w_k = W (Σ_k r η_k)_u

and the sums over w_k are taken pattern by pattern. Expanding the square costs precision where the
spread is large relative to the standard deviations, as in the fast E-step, whose bound decides.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sklearn_torch_gmm.core.conditional import Patterns
from sklearn_torch_gmm.core.dependent_gaps import GroupedGapStep
from sklearn_torch_gmm.core.fast_step import FastEStep
from sklearn_torch_gmm.core.gap_chunks import (
    GapChunk,
    add_last,
    among,
    gather_last,
)
from sklearn_torch_gmm.core.gap_step import GapBatch
from sklearn_torch_gmm.core.rounding import extents_of


class SharedGapStep(GroupedGapStep):
    """Adds rows with gaps to a fast E-step of components that share one covariance matrix."""

    def __init__(self, step: FastEStep) -> None:
        super().__init__(step)
        means = step.parameters.means
        self._linear = step.natural[..., 1 : means.shape[-1] + 1]
        self._offsets = -0.5 * ((means - step.centre) * self._linear).sum(-1)
        self._precisions = self._conditionals.precisions.squeeze(-3)

    def _values_per_row(self, num_missing: int) -> int:
        restarts, components, features = self._step.parameters.means.shape
        size = 1 + num_missing * num_missing
        return 6 * restarts * features + 3 * restarts * components * size

    def _add_chunk(self, chunk: GapChunk, batch: GapBatch) -> None:
        step, features = self._step, self._step.parameters.means.shape[-1]
        values, observed = chunk.values_of(batch.rows, step.parameters.means)
        x = torch.addcmul(values, step.centre.unsqueeze(-1), observed, value=-1.0)
        if self._extents is not None:
            torch.maximum(self._extents, extents_of(x), out=self._extents)
        patterns = self._conditionals.of_patterns(chunk)
        own = _Shifts(self._linear, patterns, chunk)
        covariances = chunk.by_row(patterns.covariances).squeeze(-4)
        place = among(chunk.missing_by_row, 1)
        place = place.expand(-1, covariances.shape[1], -1, -1)

        x = among(x, 1)
        pulled = self._precisions @ x
        missing = pulled.gather(-2, place)
        filled = _times(covariances, missing)
        h = x.expand_as(pulled).scatter_add(-2, place, -filled)
        common = (pulled * x).sum(-2).sub_((missing * filled).sum(-2))
        constants = patterns.log_constants + self._offsets.unsqueeze(-1) + own.constants
        logits = chunk.by_row(constants) + self._linear @ h
        logits.sub_(common.unsqueeze(-2), alpha=0.5)
        self._weigh(logits, batch, chunk)

        moments, shares = step.moments, chunk.by_pattern(logits)
        moments.counts.add_(logits.sum((0, -1)))
        first = logits @ h.mT
        own.add_first(first, shares)
        moments.first(features).add_(first.sum(0))
        mean_shift = _times(covariances, (self._linear.mT @ logits).gather(-2, place))
        # h hᵀ and twice h ω̄ᵀ in one product, of which the symmetric part is taken.
        weighted = (h * logits.sum(-2, keepdim=True)).scatter_add_(-2, place, 2.0 * mean_shift)
        scatter = weighted @ h.mT
        scatter = 0.5 * (scatter + scatter.mT)
        own.add_scatter(scatter, shares)
        self._add_second(scatter.sum(0))


class _Shifts:
    """w_k ``[T, R, K, c, p]``, by which the means of the components shift the patterns' rows."""

    def __init__(self, linear: Tensor, patterns: Patterns, chunk: GapChunk) -> None:
        lanes, size, width = chunk.missing.shape
        self._chunk = chunk
        self._covariances = patterns.covariances
        own = gather_last(linear.expand(lanes, *linear.shape), chunk.missing.flatten(1))
        own = own.unflatten(-1, (size, width))
        self._values = _times(patterns.covariances, own)
        self.constants = 0.5 * (own * self._values).sum(-2)

    def add_first(self, first: Tensor, shares: Tensor) -> None:
        """Add Σ r w to ``first [T, R, K, D]``, for ``shares [T, R, K, p]`` of the patterns."""
        weighted = self._values * shares.unsqueeze(-2)
        add_last(first, self._chunk.missing.flatten(1), weighted.flatten(-2))

    def add_scatter(self, scatter: Tensor, shares: Tensor) -> None:
        """Add Σ r (w wᵀ + W) to ``scatter [T, R, D, D]``."""
        weighted = self._values * shares.unsqueeze(-2)
        blocks = (weighted.unsqueeze(-3) * self._values.unsqueeze(-2)).sum(-4)
        blocks += self._covariances.squeeze(-4) * shares.sum(-2)[..., None, None, :]
        add_last(scatter.flatten(-2), self._chunk.places, blocks.flatten(-3))


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Products ``[..., c, n]`` of ``matrices [..., c, c, n]`` and ``vectors [..., c, n]``."""
    return (matrices * vectors.unsqueeze(-3)).sum(-2)
