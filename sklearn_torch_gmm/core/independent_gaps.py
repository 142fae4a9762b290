"""Rows with gaps where features are independent."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sklearn_torch_gmm.core.conditional import IndependentConditionals
from sklearn_torch_gmm.core.e_step import EStep
from sklearn_torch_gmm.core.fast_step import FastEStep
from sklearn_torch_gmm.core.gap_step import GapBatch, GapStep
from sklearn_torch_gmm.core.gaps import without_gaps
from sklearn_torch_gmm.core.rounding import extents_of


class IndependentGapStep(GapStep):
    """For independent features: missing values are expected at the mean, with its variance."""

    def __init__(self, step: EStep) -> None:
        super().__init__(step)
        own = step.parameters
        self._conditionals = IndependentConditionals(
            own.log_weights, own.means, own.precisions_cholesky, step.structure
        )

    def add(self, batch: GapBatch) -> None:
        step, means = self._step, self._step.parameters.means
        lacking = torch.zeros_like(means)
        for numbers in batch.split.incomplete.split(
            step.workspace.rows_per_chunk(4 * means.numel())
        ):
            lacking += self._add_chunk(numbers, batch)
        self._add_expected(lacking)

    def _add_chunk(self, numbers: Tensor, batch: GapBatch) -> Tensor:
        """Add the observed values; return the weight ``[R, K, D]`` of the missing ones."""
        step, moments = self._step, self._step.moments
        features = step.parameters.means.shape[-1]
        values, observed = without_gaps(self._values(batch, numbers))
        logits, residuals = self._conditionals.complete(values, observed)
        self._weigh(logits, batch, numbers)
        shift = (step.parameters.means - step.centre).unsqueeze(-1)
        residuals.addcmul_(shift, observed)
        counts = logits.sum(-1)
        moments.counts.add_(counts)
        moments.first(features).add_((residuals @ logits.unsqueeze(-1)).squeeze(-1))
        self._add_second(step.structure.centred_second_moments(residuals, logits))
        return logits @ (1.0 - observed).T

    def _add_expected(self, lacking: Tensor) -> None:
        """Add what is expected of missing values with weights ``lacking [R, K, D]``."""
        step = self._step
        shift = step.parameters.means - step.centre
        step.moments.first(shift.shape[-1]).add_(lacking * shift)
        squares = lacking * (self._conditionals.variances + shift.square())
        # T₂ of independent features is linear in their squares.
        roots = squares.sqrt_().unsqueeze(-1)
        ones = torch.ones_like(roots[..., 0, :])
        self._add_second(step.structure.centred_second_moments(roots, ones))


class FastIndependentGapStep(IndependentGapStep):
    """The same with two matrix products, of T(x) = (1, x, T₂(x), m) with zeros for gaps.

    m is 1 for each value that is observed. Only for the fast E-step, whose bound on the rounding
    holds for these rows, too.
    """

    def __init__(self, step: FastEStep) -> None:
        super().__init__(step)
        self._shift = step.centre.unsqueeze(-1)
        shift = step.parameters.means - step.centre
        features = shift.shape[-1]
        linear = step.natural[..., 1 : features + 1]
        scales = self._conditionals.log_scales - 0.5 * shift * linear
        constants = step.parameters.log_weights.unsqueeze(-1)
        natural = torch.cat([constants, step.natural[..., 1:], scales], dim=-1)
        self._natural = natural.flatten(0, 1)

    def add(self, batch: GapBatch) -> None:
        step, means = self._step, self._step.parameters.means
        restarts, components, features = means.shape
        sums = torch.zeros_like(self._natural)
        size = step.workspace.rows_per_chunk(self._natural.shape[1] + 2 * self._natural.shape[0])
        for numbers in batch.split.incomplete.split(size):
            self._add_products(numbers, batch, sums)
        sums = sums.unflatten(0, (restarts, components))
        lacking = sums[..., :1] - sums[..., -features:]
        step.moments.sums.add_(sums[..., :-features])
        # Rounding may leave a weight of zero slightly below.
        self._add_expected(lacking.clamp_min(0.0))

    def _add_products(self, numbers: Tensor, batch: GapBatch, sums: Tensor) -> None:
        step, features = self._step, self._step.parameters.means.shape[-1]
        moments = step.workspace.take("gap features", self._natural.shape[1], len(numbers))
        x = moments[1 : features + 1]
        torch.sub(batch.rows.index_select(0, numbers).T, self._shift, out=x)
        # NaN alone differs from itself.
        torch.eq(x, x, out=moments[-features:])
        x.nan_to_num_(0.0, math.inf, -math.inf)
        if self._extents is not None:
            torch.maximum(self._extents, extents_of(x[None]), out=self._extents)
        step.structure.complete_moments(moments[:-features], features)
        logits = self._natural @ moments
        by_mixture = logits.unflatten(0, step.parameters.weights.shape)
        self._weigh(by_mixture, batch, numbers)
        sums.addmm_(logits, moments.T)
