"""Rows with gaps where features depend on each other."""

from __future__ import annotations

import torch
from torch import Tensor

from sklearn_torch_gmm.core.conditional import Conditionals, Patterns
from sklearn_torch_gmm.core.e_step import EStep
from sklearn_torch_gmm.core.gap_step import GapBatch, GapStep
from sklearn_torch_gmm.core.gaps import GapGroup, places_of_blocks, without_gaps
from sklearn_torch_gmm.core.rounding import extents_of


class DependentGapStep(GapStep):
    """For features that depend on each other: rows in groups that lack as many values.

    It works with residuals throughout, whatever the E-step of the complete rows does.
    """

    def __init__(self, step: EStep) -> None:
        super().__init__(step)
        own = step.parameters
        self._conditionals = Conditionals(
            own.log_weights, own.means, own.precisions_cholesky, step.structure
        )

    def add(self, batch: GapBatch) -> None:
        step, means = self._step, self._step.parameters.means
        restarts, components, features = means.shape
        # Sums of conditional covariances, as matrices.
        spread = means.new_zeros(restarts, components, features * features)
        for group in batch.split.groups:
            size = group.missing.shape[0]
            values_per_row = 4 * means.numel() + 2 * restarts * components * size * size
            for chunk in group.chunks(step.workspace.rows_per_chunk(values_per_row, least=1)):
                self._add_chunk(chunk, batch, spread)
        spread = spread.unflatten(-1, (features, features))
        self._add_second(step.structure.second_moments_of_scatter(spread))

    def _add_chunk(self, chunk: GapGroup, batch: GapBatch, spread: Tensor) -> None:
        step, moments = self._step, self._step.moments
        features = step.parameters.means.shape[-1]
        values, observed = without_gaps(self._values(batch, chunk.rows))
        if self._extents is not None:
            deviations = values - step.centre.unsqueeze(-1) * observed
            torch.maximum(self._extents, extents_of(deviations[None]), out=self._extents)
        patterns = self._conditionals.of_patterns(chunk)
        logits, residuals = self._conditionals.complete(values, observed, chunk, patterns)
        self._weigh(logits, batch, chunk.rows)
        residuals += (step.parameters.means - step.centre).unsqueeze(-1)
        moments.counts.add_(logits.sum(-1))
        moments.first(features).add_((residuals @ logits.unsqueeze(-1)).squeeze(-1))
        self._add_second(step.structure.centred_second_moments(residuals, logits))
        places = places_of_blocks(chunk.missing, features)
        _add_covariances(spread, patterns, chunk.by_pattern(logits), places)


def _add_covariances(spread: Tensor, patterns: Patterns, shares: Tensor, places: Tensor) -> None:
    """Add Σ r W to ``spread [R, K, D²]``, with ``shares [R, K, p]`` and ``places [c² p]``."""
    covariances = patterns.covariances
    if covariances.shape[-4] == 1:
        # Shared by all components, like the sum to which they contribute.
        spread, shares = spread[..., :1, :], shares.sum(-2, keepdim=True)
    weighted = covariances * shares[..., None, None, :]
    spread.index_add_(-1, places, weighted.flatten(-3))
