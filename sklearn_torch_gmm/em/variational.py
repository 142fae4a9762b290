"""Variational Bayes in the loop of EM: the prior, and the M-step that adds it to the moments."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.e_step import EStep, cost_of_pass
from sklearn_torch_gmm.core.exact_step import ExactEStep
from sklearn_torch_gmm.core.fast_step import FastEStep
from sklearn_torch_gmm.core.m_step import MStepResult
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.posterior import (
    PosteriorParameters,
    PriorParameters,
    evidence_bound,
    posterior_step,
    second_moments_of_prior,
)
from sklearn_torch_gmm.core.weight_priors import WeightPrior
from sklearn_torch_gmm.core.workspace import Workspace, is_wide
from sklearn_torch_gmm.em.estimation import Estimation, Regularization
from sklearn_torch_gmm.em.offsets import evenly_spaced, weighted_mean
from sklearn_torch_gmm.em.threads import threads_for_work
from sklearn_torch_gmm.rows.source import CPU, RowSource


@dataclass(frozen=True)
class Prior:
    """The prior of a mixture; values that are None are taken from the data."""

    weights: WeightPrior
    weight_concentration: float
    """α₀ of the Dirichlet distribution, for each component, or of the Dirichlet process."""
    mean_precision: float
    """β₀"""
    degrees_of_freedom: float
    """ν₀, greater than D − 1."""
    mean: Tensor | None = None
    """m₀ ``[D]``; None: the mean of the rows."""
    covariance: Tensor | None = None
    """W₀, in the shape of the covariances of one component; None: the covariance of the rows."""
    unit: float = 1.0
    """Number of rows to which a weight of one is equivalent."""
    num_rows: float | None = None
    """The number of rows, or of those to which their weights are equivalent; None: from the data.
    """


@dataclass(frozen=True)
class VariationalBayes(Estimation):
    """The approximate posterior under a prior; it raises a bound on the log-evidence."""

    prior: Prior

    parameters_type = PosteriorParameters
    bound_name = "lower bound"
    always_rises = False
    bound_follows_step = True
    needs_entropy = True
    # With a prior, they need no special treatment.
    has_rare_cases = False

    def tolerated_error(self, dtype: torch.dtype, change: float) -> float:
        # The bound is a sum over the rows: an error in each of them is multiplied by their number.
        return 1e-9 if dtype == torch.float64 else 1e-4

    def knowing(self, rows: RowSource, structure: CovarianceStructure, loop: Any) -> Estimation:
        prior, total = self.prior, rows.total_weight
        is_given = prior.mean is not None and prior.covariance is not None
        if is_given and total is None and rows.num_rows is not None:
            return replace(self, prior=replace(prior, num_rows=float(rows.num_rows)))
        moments, centre = moments_of_all(rows, structure, loop.batch_size, loop.num_workers)
        # The loop sees weights with a mean of one.
        count = moments.counts.item()
        unit = 1.0 if total is None else total / count
        mean, covariance = prior.mean, prior.covariance
        if mean is None:
            mean = centre + moments.first(rows.num_features)[0, 0] / count
        if covariance is None:
            covariance = unbiased_covariance(moments, unit, structure, rows.num_features)
        found = replace(prior, mean=mean, covariance=covariance, unit=unit, num_rows=unit * count)
        return replace(self, prior=found)

    def continuing(
        self, previous: PosteriorParameters, structure: CovarianceStructure
    ) -> PosteriorParameters:
        # The data may differ, and so may the prior that is taken from them.
        return replace(previous, prior=self._prior_of(previous.means, structure))

    def facts(self) -> dict[str, Any]:
        prior = self.prior
        return {
            "an estimation by": "variational Bayes",
            "weight_concentration_prior_type": prior.weights.name,
            "weight_concentration_prior": prior.weight_concentration,
            "mean_precision_prior": prior.mean_precision,
            "mean_prior": None if prior.mean is None else prior.mean.tolist(),
            "degrees_of_freedom_prior": prior.degrees_of_freedom,
            "covariance_prior": None if prior.covariance is None else prior.covariance.tolist(),
        }

    def before_data(self, means: Tensor, structure: CovarianceStructure) -> PosteriorParameters:
        restarts, *sizes = means.shape
        nothing = means.new_empty(restarts, 0)
        shape = structure.covariance_shape(*sizes)
        return PosteriorParameters(
            weights=nothing,
            means=means,
            covariances=means.new_empty(restarts, *shape),
            precisions_cholesky=nothing,
            concentrations=nothing,
            mean_precisions=nothing,
            degrees_of_freedom=nothing,
            prior=self._prior_of(means, structure),
        )

    def _prior_of(self, means: Tensor, structure: CovarianceStructure) -> PriorParameters:
        """Return the prior of each mixture with these ``means [R, K, D]``."""
        prior, (_, components, num_features) = self.prior, means.shape
        assert prior.mean is not None
        assert prior.covariance is not None
        assert prior.num_rows is not None
        scale = prior.covariance.to(means)
        return PriorParameters(
            prior.weight_concentration,
            prior.mean_precision,
            prior.degrees_of_freedom,
            prior.mean.to(means),
            scale,
            second_moments_of_prior(scale, structure, components, num_features),
            prior.unit,
            prior.weights.bound_constant(prior.weight_concentration, components, prior.num_rows),
        )

    def m_step(
        self,
        moments: Moments,
        centre: Tensor,
        before: PosteriorParameters,
        structure: CovarianceStructure,
        regularization: Regularization,
        *,
        rare_cases: bool = True,
        total_weight: float | None = None,
    ) -> MStepResult:
        return posterior_step(
            moments, centre, before, self.prior.weights, structure, regularization.amount
        )

    def bounds(
        self,
        e_step: EStep,
        moments: Moments,
        found: PosteriorParameters,
        structure: CovarianceStructure,
    ) -> Tensor:
        return evidence_bound(e_step.entropy(moments), found, structure)


@torch.inference_mode()
def moments_of_all(
    rows: RowSource,
    structure: CovarianceStructure,
    batch_size: int | None = None,
    num_workers: int = 0,
) -> tuple[Moments, Tensor]:
    """Return the moments of all rows as one component, and their centre ``[D]``."""
    cost = cost_of_pass(rows.num_rows or sys.maxsize, 1, rows.num_features, structure)
    with threads_for_work(cost):
        middle = _weighted_middle(rows, batch_size, num_workers)
        step: EStep | None = None
        with rows.batches(batch_size, num_workers) as batches:
            for batch in batches:
                if step is None:
                    if middle is None:
                        middle = evenly_spaced(batch[0].to(CPU)).mean(0)
                    step = _pass_for_one_component(middle.view(1, 1, -1), structure)
                step.add(*(part.to(CPU) for part in batch))
    assert step is not None
    return step.moments, step.parameters.means[0, 0]


def _weighted_middle(rows: RowSource, batch_size: int | None, num_workers: int) -> Tensor | None:
    """Return the mean ``[D]`` of all rows, in float64; None if their weights are equal."""
    if rows.total_weight is None:
        return None
    with rows.batches(batch_size, num_workers) as batches:
        # Equal weights do not come with the rows.
        weighted = takewhile(lambda batch: len(batch) > 1, batches)
        return weighted_mean((batch.to(CPU), weights.to(CPU)) for batch, weights in weighted)


def unbiased_covariance(
    moments: Moments, unit: float, structure: CovarianceStructure, num_features: int
) -> Tensor:
    """Return the covariance of all rows, for one component; a weight is a number of copies.

    Raises
    ------
    ValueError
        If the weights, ``unit`` times those of the moments, sum to one or less.
    """
    counts = moments.counts
    total = unit * counts.item()
    # Weights sum to one only up to rounding.
    if total <= 1.0 + 1e-9:
        msg = (
            f"sample_weight sums to {total:.3g}. In a Bayesian mixture a weight is the number of "
            "copies of a sample, and the default covariance_prior is the covariance of more than "
            "one sample: scale the weights, or give a covariance_prior."
        )
        raise ValueError(msg)
    deviations = moments.first(num_features) / counts.unsqueeze(-1)
    second = moments.second(num_features)
    covariance = structure.estimate(counts, deviations, second, moments.scatter)[0]
    if structure.has_independent_features:
        # The variance of a constant feature may be rounded to a negative number.
        covariance = covariance.clamp_min(0.0)
    return covariance * (total / (total - 1.0))


def _pass_for_one_component(means: Tensor, structure: CovarianceStructure) -> EStep:
    """Return an E-step for one component of all rows, about a point ``[1, 1, D]``."""
    num_features = means.shape[-1]
    unit = structure.unit_covariances(
        means.new_ones(1, *structure.covariance_shape(1, num_features))
    )
    whole = MixtureParameters(means.new_ones(1, 1), means, unit, unit)
    workspace = Workspace(means.dtype, CPU)
    length = 1 + structure.num_moments(num_features)
    if is_wide(length, num_features):
        return ExactEStep(whole, means[0, 0], structure, workspace)
    natural = means.new_zeros(1, 1, length)
    return FastEStep(whole, means[0, 0], structure, workspace, natural=natural)
