"""Variational Bayes for Gaussian mixtures: the posterior from sufficient statistics.

The posterior of a component is a Gauss–Wishart distribution: its mean is normal with β_k times the
component's precision Λ_k, which has a Wishart distribution with ν_k degrees of freedom. The prior
is of the same form, so a step adds it to the sufficient statistics:

    N_k = Σ r,  β_k = β₀ + N_k,  m_k = (β₀ m₀ + Σ r x) / β_k,  ν_k = ν₀ + N_k,
    ν_k Σ_k = W₀ + Σ r (x − x̄_k)(x − x̄_k)ᵀ + β₀ N_k / β_k (x̄_k − m₀)(x̄_k − m₀)ᵀ
              + N_k · regularization,

where Σ_k⁻¹ is the mean of Λ_k. Structures other than 'full' use the corresponding part of the
matrix, as scikit-learn does. E log p(x, k) is then again a log-weight plus the log-density of a
Gaussian, log N(x | m_k, Σ_k), so the passes over the data are the same as for EM.

Source: Bishop, Pattern Recognition and Machine Learning (2006), section 10.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sklearn_torch_gmm.core.cached_property import cached_property
from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.device import moved
from sklearn_torch_gmm.core.m_step import MStepResult, negligible_weight
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.weight_priors import WeightPrior, prior_of


@dataclass(frozen=True)
class PriorParameters:
    """The prior of a mixture with K components, in the form in which a step needs it."""

    weight_concentration: float
    """α₀"""

    mean_precision: float
    """β₀, in rows."""

    degrees_of_freedom: float
    """ν₀, in rows."""

    mean: Tensor
    """m₀ ``[D]``."""

    covariance: Tensor
    """W₀, in the shape of the covariances of one component."""

    second: Tensor
    """The second moments of W₀, ``[1, 1, Q]``, or the pooled scatter ``[1, D, D]`` of the W₀ of all
    components: they follow from it, but would be computed again in each step."""

    unit: float
    """The rows that a weight of one stands for."""

    bound_constant: float
    """The term of the bound that depends only on α₀ and on the number of rows, in nats."""

    def to_plain(self) -> dict[str, Any]:
        """Return tensors and plain values that a checkpoint can hold."""
        return dict(vars(self))

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> PriorParameters:
        """Return the same values on another device or in another floating-point type."""
        mean, covariance, second = (
            moved(values, device, dtype) for values in (self.mean, self.covariance, self.second)
        )
        return replace(self, mean=mean, covariance=covariance, second=second)


@dataclass(frozen=True)
class PosteriorParameters(MixtureParameters):
    """Posteriors of R mixtures, with the prior that they started from.

    Weights, means and covariances belong to the Gaussians in the E-step.
    """

    concentrations: Tensor
    """Of the weights, ``[R, 1 or 2, K]``: see :mod:`sklearn_torch_gmm.core.weight_priors`."""

    mean_precisions: Tensor
    """β, the precisions of the means in units of the components' precisions: ``[R, K]``."""

    degrees_of_freedom: Tensor
    """ν ``[R, K]``."""

    prior: PriorParameters
    """The same for all of the R mixtures."""

    def tensors(self) -> list[Tensor]:
        return super().tensors()[:-1]

    def with_tensors(self, tensors: Iterable[Tensor]) -> PosteriorParameters:
        return PosteriorParameters._of(tensors, self.prior)

    def to_plain(self) -> list[Any]:
        return [*self.tensors(), self.prior.to_plain()]

    @classmethod
    def from_plain(cls, plain: Sequence[Any]) -> PosteriorParameters:
        *tensors, prior = plain
        return cls._of(tensors, PriorParameters(**prior))

    @classmethod
    def _of(cls, tensors: Iterable[Tensor], prior: PriorParameters) -> PosteriorParameters:
        values: list[Any] = [*tensors, prior]
        return cls(*values)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> PosteriorParameters:
        found = super().to(device, dtype)
        return found if found is self else replace(found, prior=self.prior.to(device, dtype))

    @property
    def log_weights(self) -> Tensor:
        """E log p(x, k) − log N(x | m_k, Σ_k), in nats: ``[R, K]``."""
        return expected_log_weights(self.concentrations, self.mean_precisions, self.wishart)

    @cached_property
    def wishart(self) -> Wishart:
        """Functions of the degrees of freedom, for the bound and the log-weights."""
        return Wishart.of(self.degrees_of_freedom, self.means.shape[-1])


class Wishart(NamedTuple):
    """Functions of the degrees of freedom ν ``[R, K]`` of Wishart distributions."""

    halves: Tensor
    """½ (ν − i) ``[R, K, D]`` for i from 0 to D − 1, the arguments of a multivariate gamma."""

    log_half: Tensor
    """log ½ ν ``[R, K]``."""

    @classmethod
    def of(cls, degrees: Tensor, num_features: int) -> Wishart:
        """Return them for D features."""
        steps = _half_steps(num_features, degrees.dtype, degrees.device)
        halves = torch.add(steps, degrees.unsqueeze(-1), alpha=0.5)
        return cls(halves, (0.5 * degrees).log_())


def expected_log_weights(
    concentrations: Tensor, mean_precisions: Tensor, wishart: Wishart
) -> Tensor:
    """:attr:`PosteriorParameters.log_weights` from the posterior's own parameters ``[R, ..., K]``.

    Source: Bishop (2006), equations (10.64) to (10.66).
    """
    expected = prior_of(concentrations).expected_log_weights(concentrations)
    # E log |Λ| is the log-determinant of the mean of Λ plus the following terms.
    terms = wishart.halves.digamma().sum(-1)
    each = wishart.log_half + mean_precisions.reciprocal()
    num_features = wishart.halves.shape[-1]
    return torch.add(expected, terms.sub_(each, alpha=num_features), alpha=0.5)


def second_moments_of_prior(
    covariance: Tensor, structure: CovarianceStructure, num_components: int, num_features: int
) -> Tensor:
    """:attr:`PriorParameters.second` from W₀."""
    # Components that share a matrix add the prior of each.
    each = float(num_components) if structure.has_pooled_scatter else 1.0
    return structure.second_moments_of(
        covariance.unsqueeze(0), covariance.new_full((1, 1), each), num_features
    )


def posterior_step(
    moments: Moments,
    centre: Tensor,
    before: PosteriorParameters,
    weight_prior: WeightPrior,
    structure: CovarianceStructure,
    regularization: float,
) -> MStepResult:
    """Return the posterior from the moments of a pass, without synchronizing with the device.

    Parameters
    ----------
    moments : Moments
        Sums over all rows for R mixtures.
    centre : Tensor [D] or [R, K, D]
        The point or points about which the moments are taken.
    before : PosteriorParameters
        Earlier parameters, which contain the prior.
    weight_prior : WeightPrior
    structure : CovarianceStructure
    regularization : float
        Added to the variance of each row, in squared units of the data.
    """
    _, components, num_features = before.means.shape
    prior = before.prior
    sums = moments.sums if prior.unit == 1.0 else prior.unit * moments.sums
    # As in scikit-learn, whose results depend on it if the weight of the prior is tiny.
    counts = sums[..., 0] + negligible_weight(sums.dtype)
    by_feature = counts.unsqueeze(-1)
    mean_precisions = counts + prior.mean_precision
    deviations = sums[..., 1 : num_features + 1] / by_feature
    prior_mean = prior.mean - centre
    away = deviations - prior_mean
    # Not m₀ plus a share of the way to x̄: from a prior far away, that would cost precision.
    shares = (counts / mean_precisions).unsqueeze(-1)
    rest = (prior.mean_precision / mean_precisions).unsqueeze(-1)
    means = centre + torch.addcmul(shares * deviations, rest, prior_mean)
    degrees = counts + prior.degrees_of_freedom
    if structure.is_shared:
        degrees = degrees.mean(-1, keepdim=True).expand_as(counts)

    # Σ r (x − x̄)(x − x̄)ᵀ + β₀ N / β (x̄ − m₀)(x̄ − m₀)ᵀ: about m, a strong prior would cancel it.
    shrinkage = shares * prior.mean_precision
    between = structure.centred_second_moments(away.unsqueeze(-1), shrinkage)
    added = _of_regularization(structure, num_features, regularization, counts.dtype, counts.device)
    second, scatter = sums[..., num_features + 1 :], moments.scatter
    if scatter is None:
        second = (second + between).add_(prior.second).addcmul_(by_feature, added)
    else:
        all_rows = counts.sum(-1)[:, None, None]
        own = torch.add(between, scatter, alpha=prior.unit)
        scatter = own.add_(prior.second).addcmul_(all_rows, added)
    scaled = deviations * (counts / degrees).sqrt_().unsqueeze(-1)
    covariances = structure.estimate(degrees, scaled, second, scatter)
    factors, usable = structure.precisions_cholesky(covariances, components)
    concentrations = weight_prior.posterior(counts, prior.weight_concentration)
    found = PosteriorParameters(
        weight_prior.expected_weights(concentrations),
        means,
        covariances,
        factors,
        concentrations,
        mean_precisions,
        degrees,
        prior,
    )
    return MStepResult(found, usable)


def evidence_bound(
    entropy: Tensor, found: PosteriorParameters, structure: CovarianceStructure
) -> Tensor:
    """Lower bound ``[R]`` on the log-evidence of all rows, up to a constant, in nats.

    ``entropy [R]`` is the entropy of the responsibilities from which the posterior was computed,
    with the weights of its moments. All other terms cancel, except for the normalization constants
    of the posteriors. For structures other than 'full' this is an approximation, which scikit-learn
    makes as well: their bounds may fall.

    Source: Bishop (2006), equations (10.70) to (10.77), (B.79).
    """
    num_features, degrees = found.means.shape[-1], found.degrees_of_freedom
    sizes = found.means.shape[-2:]
    log_determinants = structure.log_determinants(found.precisions_cholesky, *sizes)
    # Of the Wishart distribution's scale matrix, Λ / ν, without constants that depend only on D.
    half = 0.5 * num_features
    log_wishart = degrees * torch.sub(log_determinants, found.wishart.log_half, alpha=half)
    log_wishart.add_(found.wishart.halves.lgamma().sum(-1))
    of_components = log_wishart.sub_(found.mean_precisions.log(), alpha=half)
    of_components.add_(prior_of(found.concentrations).bound_terms(found.concentrations))
    prior = found.prior
    weighted = entropy if prior.unit == 1.0 else prior.unit * entropy
    return of_components.sum(-1).add_(weighted).add_(prior.bound_constant)


@lru_cache(maxsize=64)
def _of_regularization(
    structure: CovarianceStructure,
    num_features: int,
    amount: float,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """Second moments ``[1, 1, Q]``, or a scatter ``[1, D, D]``, that regularize a single row."""
    with torch.inference_mode(mode=False):
        one = torch.ones(1, 1, dtype=dtype, device=device)
        shape = structure.covariance_shape(1, num_features)
        covariance = structure.regularize(one.new_zeros(1, *shape), amount)
        return structure.second_moments_of(covariance, one, num_features)


@lru_cache(maxsize=64)
def _half_steps(num_features: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False):
        return -0.5 * torch.arange(num_features, dtype=dtype, device=device)
