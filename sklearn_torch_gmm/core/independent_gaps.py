"""Rows with gaps where features are independent."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from sklearn_torch_gmm.core.conditional import IndependentConditionals
from sklearn_torch_gmm.core.e_step import EStep
from sklearn_torch_gmm.core.fast_step import FastEStep, FastPass
from sklearn_torch_gmm.core.gap_step import GapBatch, GapStep
from sklearn_torch_gmm.core.gaps import without_gaps
from sklearn_torch_gmm.core.workspace import subtract_transposed


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
        size = step.workspace.rows_per_chunk(4 * means.numel())
        for numbers in batch.split.numbers.incomplete.split(size):
            lacking += self._add_chunk(numbers, batch)
        self._add_expected(lacking)

    def _add_chunk(self, numbers: Tensor, batch: GapBatch) -> Tensor:
        """Add the observed values; return the weight ``[R, K, D]`` of the missing ones."""
        step, moments = self._step, self._step.moments
        features = step.parameters.means.shape[-1]
        # In a single lane.
        own = batch.rows.index_select(0, numbers).T.to(step.parameters.means)
        values, observed = without_gaps(own.contiguous().unsqueeze(0))
        logits, residuals = self._conditionals.complete(values, observed)
        weights, labels = batch.sample_weight, batch.labels
        step.weigh(
            logits,
            None if weights is None else weights[numbers].unsqueeze(0),
            None if labels is None else labels[numbers].unsqueeze(0),
        )
        logits, residuals = logits.squeeze(0), residuals.squeeze(0)
        shift = (step.parameters.means - step.centre).unsqueeze(-1)
        residuals.addcmul_(shift, observed)
        moments.counts.add_(logits.sum(-1))
        moments.first(features).add_((residuals @ logits.unsqueeze(-1)).squeeze(-1))
        self._add_second(step.structure.centred_second_moments(residuals, logits))
        return logits @ (1.0 - observed.squeeze(0)).T

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
    """The same in the pass of complete rows, with T(x) = (1, x, T₂(x), m) and zeros for gaps.

    m is 1 for each value that is observed. Only for the fast E-step, whose bound on the rounding
    holds for these rows, too.
    """

    def __init__(self, step: FastEStep, resident_rows: int | None = None) -> None:
        super().__init__(step)
        self._masked = _MaskedStep(step, self._conditionals.log_scales)
        self._pass = FastPass([self._masked], resident_rows=resident_rows)

    def add(self, batch: GapBatch) -> None:
        sums, features = self._masked.moments.sums, self._step.parameters.means.shape[-1]
        for numbers, rows in batch.split.incomplete(batch.rows):
            weights = None if batch.sample_weight is None else batch.sample_weight[numbers]
            labels = None if batch.labels is None else batch.labels[numbers]
            self._pass.add(rows, weights, labels)
        self._step.moments.sums.add_(sums[..., :-features])
        lacking = sums[..., :1] - sums[..., -features:]
        # Rounding may leave a weight of zero slightly below.
        self._add_expected(lacking.clamp_min(0.0))
        sums.zero_()


class _MaskedStep(FastEStep):
    """A fast E-step whose T(x) tells which values are observed.

    Other sums than those of T(x) are the ones of ``step``.
    """

    def __init__(self, step: FastEStep, log_scales: Tensor) -> None:
        own = step.parameters
        features = own.means.shape[-1]
        linear = step.natural[..., 1 : features + 1]
        # The constant of complete rows is the sum of what each value adds here.
        scales = log_scales - 0.5 * (own.means - step.centre) * linear
        constants = own.log_weights.unsqueeze(-1)
        natural = torch.cat([constants, step.natural[..., 1:], scales], dim=-1)
        super().__init__(
            own,
            step.centre,
            step.structure,
            step.workspace,
            natural=natural,
            extents=step.extents,
            classes=step.classes,
        )
        sums = step.workspace.new_sums(natural.shape[0] * natural.shape[1], natural.shape[2])
        self.moments = replace(step.moments, sums=sums.unflatten(0, natural.shape[:2]))

    @property
    def moments_name(self) -> str:
        return f"{self.structure.name} with gaps"

    def write_moments(self, rows: Tensor, out: Tensor) -> None:
        num_features = rows.shape[-1]
        x, observed = out[:, 1 : num_features + 1], out[:, -num_features:]
        subtract_transposed(rows, self.centre.unsqueeze(-1), out=x)
        # Only NaN differs from itself.
        torch.eq(x, x, out=observed)
        x.nan_to_num_(0.0, math.inf, -math.inf)
        self.structure.complete_moments(out[:, :-num_features], num_features)
