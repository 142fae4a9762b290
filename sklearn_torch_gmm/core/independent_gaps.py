"""Rows with gaps where features are independent."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from sklearn_torch_gmm.core.conditional import IndependentConditionals
from sklearn_torch_gmm.core.covariance.base import LOG_2PI
from sklearn_torch_gmm.core.fast_step import FastEStep, FastPass
from sklearn_torch_gmm.core.gap_step import GapBatch, GapStep
from sklearn_torch_gmm.core.gaps import without_gaps
from sklearn_torch_gmm.core.workspace import subtract_transposed


class _SquaredGapStep(GapStep):
    """For independent features: missing values are expected at the mean, with its variance."""

    def _add_expected(self, lacking: Tensor) -> None:
        """Add what is expected of missing values with weights ``lacking [R, K, D]``."""
        step, structure, own = self._step, self._step.structure, self._step.parameters
        features = own.means.shape[-1]
        shift = own.means - step.centre
        step.moments.first(features).addcmul_(lacking, shift)
        variances = structure.variances(own.covariances, *own.means.shape[-2:])
        squares = torch.addcmul(variances, shift, shift).mul_(lacking)
        # T₂ of independent features is linear in their squares.
        second = step.moments.second(features).unsqueeze(-1)
        expected = torch.empty_like(second)
        structure.write_second_moments(squares.sqrt_().unsqueeze(-1), expected)
        second.add_(expected)


class IndependentGapStep(_SquaredGapStep):
    """From residuals, whatever the spread of the rows."""

    def renew(self) -> None:
        own = self._step.parameters
        self._conditionals = IndependentConditionals(
            own.log_weights, own.means, own.precisions_cholesky, self._step.structure
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


class FastIndependentGapStep(_SquaredGapStep):
    """In the pass of complete rows, with T(x) = (1, x, T₂(x), g) and zeros for gaps.

    g is 1 for each gap. Only for the fast E-step, whose bound on the rounding holds for these rows,
    too.
    """

    _step: FastEStep

    def __init__(self, step: FastEStep, resident_rows: int | None = None) -> None:
        self._marked = _MarkedStep(step)
        self._pass = FastPass([self._marked], resident_rows=resident_rows)
        super().__init__(step)

    def renew(self) -> None:
        self._marked.follow(self._step)
        self._pass.renew()

    def add(self, batch: GapBatch) -> None:
        sums, features = self._marked.moments.sums, self._step.parameters.means.shape[-1]
        for numbers, rows in batch.split.incomplete(batch.rows):
            weights = None if batch.sample_weight is None else batch.sample_weight[numbers]
            labels = None if batch.labels is None else batch.labels[numbers]
            self._pass.add(rows, weights, labels)
        self._step.moments.sums.add_(sums[..., :-features])
        self._add_expected(sums[..., -features:])
        sums.zero_()


class _MarkedStep(FastEStep):
    """A fast E-step whose T(x) marks the values that are missing.

    It adds to the log-likelihood and all other sums of the step that it follows, except for T(x).
    """

    def __init__(self, step: FastEStep) -> None:
        super().__init__(
            step.parameters,
            step.centre,
            step.structure,
            step.workspace,
            natural=_with_terms_of_gaps(step),
            extents=step.extents,
            classes=step.classes,
        )
        sums = step.workspace.new_sums(*self.natural.flatten(0, 1).shape)
        self._sums = sums.unflatten(0, self.natural.shape[:2])

    def follow(self, step: FastEStep) -> None:
        """Begin another pass with the parameters and the moments of a step."""
        self.parameters, self.natural = step.parameters, _with_terms_of_gaps(step)
        self.moments = replace(step.moments, sums=self._sums)
        self.many_vanish = step.many_vanish

    @property
    def moments_name(self) -> str:
        return f"{self.structure.name} with gaps"

    def write_moments(self, rows: Tensor, out: Tensor) -> None:
        num_features = rows.shape[-1]
        x, missing = out[:, 1 : num_features + 1], out[:, -num_features:]
        subtract_transposed(rows, self.centre.unsqueeze(-1), out=x)
        # Only NaN differs from itself.
        torch.ne(x, x, out=missing)
        x.nan_to_num_(0.0, math.inf, -math.inf)
        self.structure.complete_moments(out[:, :-num_features], num_features)


def _with_terms_of_gaps(step: FastEStep) -> Tensor:
    """Natural parameters ``[R, K, 1 + P + D]`` of a step and, negated, the term of each value."""
    own, structure = step.parameters, step.structure
    features = own.means.shape[-1]
    linear = step.natural[..., 1 : features + 1]
    factors = structure.variances(own.precisions_cholesky, *own.means.shape[-2:])
    # The constant of complete rows is log π and the sum of these terms.
    terms = torch.addcmul(factors.log(), own.means - step.centre, linear, value=-0.5)
    return torch.cat([step.natural, 0.5 * LOG_2PI - terms], dim=-1)
