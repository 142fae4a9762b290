"""Rows with gaps where features depend on each other."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from sklearn_torch_gmm.core.conditional import Conditionals, Patterns
from sklearn_torch_gmm.core.e_step import EStep
from sklearn_torch_gmm.core.gap_chunks import GapChunk, chunks_of
from sklearn_torch_gmm.core.gap_step import GapBatch, GapStep
from sklearn_torch_gmm.core.gaps import GapGroup
from sklearn_torch_gmm.core.rounding import extents_of


class GroupedGapStep(GapStep):
    """Rows in groups that lack as many values, in chunks with a lane for each thread."""

    def renew(self) -> None:
        self._of_pass: Conditionals | None = None

    @property
    def _conditionals(self) -> Conditionals:
        """The conditional distributions under the parameters of the pass, found when needed."""
        if self._of_pass is None:
            own = self._step.parameters
            self._of_pass = Conditionals(
                own.log_weights, own.means, own.precisions_cholesky, self._step.structure
            )
        return self._of_pass

    @abstractmethod
    def _values_per_row(self, group: GapGroup) -> int:
        """Number of values that a row of a group takes in a chunk."""

    @abstractmethod
    def _add_chunk(self, chunk: GapChunk, batch: GapBatch) -> None:
        """Add the moments of some rows."""

    def add(self, batch: GapBatch) -> None:
        workspace = self._step.workspace
        for group in batch.split.groups:
            size = workspace.rows_per_chunk(self._values_per_row(group), least=1)
            for chunk in chunks_of(group, size, workspace.num_lanes, batch.split.may_copy):
                self._add_chunk(chunk, batch)

    def _weigh(self, logits: Tensor, batch: GapBatch, chunk: GapChunk) -> Tensor | None:
        """Turn ``logits [T, R, K, n]`` of a chunk into weighted responsibilities.

        Returns the weights ``[T, n]`` of the rows, if they have any.
        """
        labels = None if batch.labels is None else batch.labels[chunk.rows]
        weights = chunk.weights(batch.sample_weight, logits.dtype)
        self._step.weigh(logits, weights, labels)
        return weights


class DependentGapStep(GroupedGapStep):
    """For features that depend on each other.

    It works with residuals throughout, whatever the E-step of the complete rows does.
    """

    def __init__(self, step: EStep) -> None:
        super().__init__(step)
        own, means = self._conditionals.precisions, step.parameters.means
        # Sums of conditional covariances, as matrices.
        self._spread = means.new_zeros(step.workspace.num_lanes, *own.flatten(-2).shape)

    def add(self, batch: GapBatch) -> None:
        step, features = self._step, self._step.parameters.means.shape[-1]
        super().add(batch)
        spread = self._spread.sum(0).unflatten(-1, (features, features))
        self._add_second(step.structure.second_moments_of_scatter(spread))
        self._spread.zero_()

    def _values_per_row(self, group: GapGroup) -> int:
        means, num_missing = self._step.parameters.means, group.missing.shape[0]
        restarts, components, _ = means.shape
        return 4 * means.numel() + 2 * restarts * components * num_missing * num_missing

    def _add_chunk(self, chunk: GapChunk, batch: GapBatch) -> None:
        step, moments = self._step, self._step.moments
        features = step.parameters.means.shape[-1]
        values, observed = chunk.values_of(batch.rows, step.parameters.means)
        if self._extents is not None:
            deviations = values - step.centre.unsqueeze(-1) * observed
            torch.maximum(self._extents, extents_of(deviations), out=self._extents)
        patterns = self._conditionals.of_patterns(chunk)
        logits, residuals = self._conditionals.complete(values, observed, chunk, patterns)
        self._weigh(logits, batch, chunk)
        residuals += (step.parameters.means - step.centre).unsqueeze(-1)
        moments.counts.add_(logits.sum((0, -1)))
        moments.first(features).add_((residuals @ logits.unsqueeze(-1)).squeeze(-1).sum(0))
        self._add_second(step.structure.centred_second_moments(residuals, logits).sum(0))
        self._add_covariances(chunk, patterns, chunk.by_pattern(logits))

    def _add_covariances(self, chunk: GapChunk, patterns: Patterns, shares: Tensor) -> None:
        """Add Σ r W, with ``shares [T, R, K, p]`` of the patterns."""
        covariances = patterns.covariances
        if covariances.shape[-4] == 1:
            # Shared by all components, like the sum to which they contribute.
            shares = shares.sum(-2, keepdim=True)
        weighted = covariances * shares[..., None, None, :]
        chunk.add_at_places(self._spread[: len(chunk.rows)], weighted)
