"""The M-step: from sufficient statistics to the parameters of maximum likelihood.

Source: Bishop, Pattern Recognition and Machine Learning (2006), section 9.2; the exponential-family
form is equation (2.194) applied to the joint density of row and component.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.parameters import MixtureParameters


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
