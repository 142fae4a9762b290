"""Expectation–maximization for Gaussian mixtures as functions of tensors.

An iteration is one E-step over all rows, which accumulates :class:`Moments`, and one M-step, which
turns them into parameters. The E-step has two forms with the same result. The fast one, in
:mod:`~sklearn_torch_gmm.core.fast_step`, expands the square: two matrix products a chunk of rows.
The exact one, in :mod:`~sklearn_torch_gmm.core.exact_step`, works with differences to the means and
costs more; it is for data whose spread is so large against the width of a component that the
expanded form loses its digits. :func:`cancellation` tells which one is needed.

Source: Bishop, Pattern Recognition and Machine Learning (2006), section 9.2; the exponential-family
form is equation (2.194) applied to the joint density of row and component.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.parameters import MixtureParameters

TOLERATED_ERROR = {torch.float64: 2e-7, torch.float32: 1e-4}
"""Largest rounding error of a log-density, in nats, that the fast E-step may have.

:func:`cancellation` estimates it.
"""


def normalize_(logits: Tensor) -> Tensor:
    """Turn joint log-densities ``[..., K, n]`` into responsibilities in place.

    Returns
    -------
    Tensor [..., n]
        The log-density of each row, in nats.
    """
    largest = logits.amax(dim=-2, keepdim=True)
    total = logits.sub_(largest).exp_().sum(dim=-2, keepdim=True)
    logits.mul_(total.reciprocal())
    return largest.add_(total.log_()).squeeze(-2)


def extents_of(x: Tensor) -> Tensor:
    """The largest distances ``[D]`` from the centre in ``x [T, D, n]``, without a copy of it."""
    return torch.maximum(x.amax((0, 2)), x.amin((0, 2)).neg_())


def largest_moments(extents: Tensor, structure: CovarianceStructure) -> Tensor:
    """(1, T) ``[1 + P, 1]`` of the ``extents [D]``: no row nearer to the centre exceeds them."""
    num_features = extents.shape[0]
    moments = extents.new_empty(1 + structure.num_moments(num_features), 1)
    moments[1 : num_features + 1, 0] = extents
    structure.complete_moments(moments, num_features)
    return moments


def cancellation(natural: Tensor, largest: Tensor) -> Tensor:
    """Rounding error of the fast E-step's log-densities, in nats.

    A log-density is the product η · (1, T(x)). Each of its terms is rounded to eps of its size: the
    error is about eps · Σ_p |η_p| max |T_p|. The largest error of many rows has been seen at up to
    2.5 times that, since η is itself rounded.

    Parameters
    ----------
    natural : Tensor [R, K, 1 + P]
        Natural parameters about the centre.
    largest : Tensor [1 + P, 1]
        What :func:`largest_moments` returns for the largest distance of a row from the centre in
        each feature.

    Returns
    -------
    Tensor [R]
        The largest of each mixture.
    """
    coefficients = natural.abs()
    # The constant −∞ of a component without weight is not rounded.
    coefficients[..., 0].masked_fill_(natural[..., 0] == -math.inf, 0.0)
    epsilon = torch.finfo(natural.dtype).eps
    return epsilon * (coefficients @ largest).amax((-2, -1))


def cancellation_of_scatter(precisions_cholesky: Tensor, extents: Tensor) -> Tensor:
    """Rounding error of the mean of −½ xᵀ Σ⁻¹ x that is found from Σ x xᵀ, in nats.

    That is −½ tr(Uᵀ S U) for U Uᵀ = Σ⁻¹ and the mean S of x xᵀ. Each of its terms is rounded to eps
    of its size, and no |x_i x_j| exceeds that of the largest distances from the centre.

    Parameters
    ----------
    precisions_cholesky : Tensor [R, D, D]
        U, shared by all components.
    extents : Tensor [D]
        The largest distance of a row from the centre in each feature.

    Returns
    -------
    Tensor [R]
    """
    largest = extents @ precisions_cholesky.abs()
    return 0.5 * torch.finfo(extents.dtype).eps * largest.square().sum(-1)


def cancellation_of_moments(
    parameters: MixtureParameters, centre: Tensor, structure: CovarianceStructure
) -> Tensor:
    """Rounding error of covariances that come from moments about ``centre [R, K, D]``.

    Relative to the covariances: eps · (μ − c)ᵀ Σ⁻¹ (μ − c), since (μ − c)(μ − c)ᵀ is subtracted.

    Returns
    -------
    Tensor [R]
        The largest of each mixture.
    """
    deviations = parameters.means - centre
    linear = structure.linear_coefficients(deviations, parameters.precisions_cholesky)
    return torch.finfo(deviations.dtype).eps * (deviations * linear).sum(-1).amax(-1)


def negligible_weight(dtype: torch.dtype) -> float:
    """Weight of a component, in rows, up to which it has none: the rounding of a single row."""
    return 10 * torch.finfo(dtype).eps


@dataclass(frozen=True)
class MStepResult:
    """Parameters after an M-step, and what went wrong in it.

    Attributes
    ----------
    parameters : MixtureParameters
    usable : Tensor [R, K], bool
        Components whose covariance is positive definite.
    empty : Tensor [R, K], bool
        Components without weight, which kept their last mean and got the data's variance.
    """

    parameters: MixtureParameters
    usable: Tensor
    empty: Tensor


def m_step(
    moments: Moments,
    centre: Tensor,
    previous_means: Tensor,
    structure: CovarianceStructure,
    regularization: float,
    *,
    keep_rounding: bool = False,
    rare_cases: bool = True,
) -> MStepResult:
    """Maximum-likelihood parameters from moments; nothing here waits for the device.

    Parameters
    ----------
    moments : Moments
        Of R mixtures, summed over all rows.
    centre : Tensor [D] or [R, K, D]
        What the moments are about.
    previous_means : Tensor [R, K, D]
        Means that components without weight keep.
    structure : CovarianceStructure
    regularization : float
        Added once to each variance, in squared units of the data.
    keep_rounding : bool, default=False
        Whether a component of a few equal rows has the variance that rounding gives it in
        scikit-learn, where features are independent.
    rare_cases : bool, default=True
        Whether components without weight, and those of a few equal rows, are looked after. What is
        returned of a component of fewer than
        :data:`~sklearn_torch_gmm.core.covariance.FEW_ROWS` rows is meaningless otherwise.

    Returns
    -------
    MStepResult

    Notes
    -----
    Bishop (2006), equations (9.24) to (9.27).
    """
    _, components, num_features = previous_means.shape
    counts, negligible = moments.counts, negligible_weight(previous_means.dtype)
    empty = counts <= negligible
    divisors = counts.clamp_min(negligible)
    deviations = moments.first(num_features) / divisors.unsqueeze(-1)
    second = moments.second(num_features)
    covariances = structure.estimate(divisors, deviations, second, moments.scatter)
    means = centre + deviations
    if rare_cases:
        means = torch.where(empty.unsqueeze(-1), previous_means, means)
        if keep_rounding:
            covariances = structure.at_least_rounding(covariances, means, divisors)
    covariances = structure.regularize(covariances, regularization)

    weights = counts / counts.sum(-1, keepdim=True)
    if rare_cases:
        spread = total_variances(weights, means, structure.variances(covariances, num_features))
        covariances = structure.fill_components(covariances, empty, spread)
    factors, usable = structure.precisions_cholesky(covariances, components)
    return MStepResult(MixtureParameters(weights, means, covariances, factors), usable, empty)


def total_variances(weights: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """Variance of each feature ``[R, 1, D]`` under the mixtures, by the law of total variance.

    Parameters
    ----------
    weights : Tensor [R, K]
    means : Tensor [R, K, D]
    variances : Tensor [R, K, D] or [R, 1, D]
    """
    shares = weights.unsqueeze(-1)
    overall = (shares * means).sum(-2, keepdim=True)
    # The square of a distance may overflow: no share of that is none.
    terms = torch.where(shares > 0, shares * (variances + (means - overall).square()), 0.0)
    return terms.sum(-2, keepdim=True)
