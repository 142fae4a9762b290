"""The M-step: maximum-likelihood parameters from sufficient statistics.

Source: Bishop, Pattern Recognition and Machine Learning (2006), section 9.2; the exponential-family
form is equation (2.194) applied to the joint density of a row and its component.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.parameters import MixtureParameters


def negligible_weight(dtype: torch.dtype) -> float:
    """The total weight, in rows, up to which a component counts as empty: the rounding of one row.

    The factor 10 is that of scikit-learn, which adds 10 eps to the weights.
    """
    return 10 * torch.finfo(dtype).eps


@dataclass(frozen=True)
class MStepResult:
    """Parameters after an M-step, and flags of its degenerate components."""

    parameters: MixtureParameters

    usable: Tensor
    """Bool ``[R, K]``: components whose covariance has a Cholesky factor."""

    empty: Tensor | None = None
    """Bool ``[R, K]``: empty components, which keep their mean and get the total variance; None if
    no component can be empty."""


def m_step(
    moments: Moments,
    centre: Tensor,
    previous_means: Tensor,
    structure: CovarianceStructure,
    regularization: float,
    *,
    keep_rounding: bool = False,
    kept_means: Tensor | None = None,
    rare_cases: bool = True,
) -> MStepResult:
    """Maximum-likelihood parameters from moments, without synchronizing with the device.

    Source: Bishop (2006), equations (9.24) to (9.27).

    Parameters
    ----------
    moments : Moments
        Sums over all rows for R mixtures.
    centre : Tensor [D] or [R, K, D]
        The point or points about which the moments are taken.
    previous_means : Tensor [R, K, D]
        Means that empty components keep, and components in ``kept_means``.
    structure : CovarianceStructure
    regularization : float
        Added once to each variance, in squared units of the data.
    keep_rounding : bool, default=False
        Whether a component of a few equal rows gets the variance that rounding gives it in
        scikit-learn.
    kept_means : Tensor [K], default=None
        Bool, the components whose means stay, with maximum-likelihood covariances about them.
    rare_cases : bool, default=True
        Whether empty components and components of a few equal rows are handled. If not, the result
        for a component of fewer than :data:`~sklearn_torch_gmm.core.covariance.FEW_ROWS` rows is
        meaningless.
    """
    _, components, num_features = previous_means.shape
    divisors = counts = moments.counts
    empty: Tensor | None = None
    if rare_cases:
        negligible = negligible_weight(counts.dtype)
        empty, divisors = counts <= negligible, counts.clamp_min(negligible)
    deviations = moments.first(num_features) / divisors.unsqueeze(-1)
    means = centre + deviations
    if empty is not None:
        means = torch.where(empty.unsqueeze(-1), previous_means, means)
    weights = counts / moments.total.unsqueeze(-1)

    second, scatter = moments.second(num_features), moments.total_scatter
    covariances = structure.estimate(divisors, deviations, second, scatter)
    spread: Tensor | None = None
    if rare_cases:
        own = structure.variances(covariances, components, num_features)
        spread = total_variances(weights, means, own)
    if kept_means is not None:
        stays = kept_means.unsqueeze(-1)
        # An empty component does not move, even if its previous mean is far away.
        moves_not = stays if empty is None else stays & ~empty.unsqueeze(-1)
        shifts = (previous_means - centre).where(moves_not, deviations)
        moved = _moved(moments, shifts, deviations, structure)
        means, deviations = torch.where(stays, previous_means, means), torch.zeros_like(deviations)
        second, scatter = moved.second(num_features), moved.total_scatter
        covariances = structure.estimate(divisors, deviations, second, scatter)
    if spread is not None and keep_rounding:
        covariances = structure.at_least_rounding(covariances, means, deviations, divisors, spread)
    covariances = structure.regularize(covariances, regularization)
    if empty is not None and spread is not None:
        covariances = structure.fill_components(covariances, empty, spread + regularization)
    factors, usable = structure.precisions_cholesky(covariances, components)
    return MStepResult(MixtureParameters(weights, means, covariances, factors), usable, empty)


def _moved(
    moments: Moments, shifts: Tensor, deviations: Tensor, structure: CovarianceStructure
) -> Moments:
    """Moments with the second ones taken about points at ``shifts [R, K, D]`` from the centre.

    T₂ is quadratic: for N rows with the mean f, Σ T₂(x − d) = Σ T₂(x) + N (T₂(f − d) − T₂(f)). The
    same holds for a pooled scatter, which is a sum over the components.
    """
    counts, sums, scatter = moments.counts, moments.sums, moments.total_scatter
    residuals = torch.stack([deviations - shifts, deviations], dim=-1)
    change = structure.centred_second_moments(residuals, torch.stack([counts, -counts], dim=-1))
    if scatter is not None:
        return Moments(sums, moments.log_likelihood, scatter + change)
    before = sums[..., : -change.shape[-1]]
    second = moments.second(deviations.shape[-1]) + change
    return Moments(torch.cat([before, second], dim=-1), moments.log_likelihood)


def total_variances(weights: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """Variance of each feature ``[R, 1, D]`` under the mixtures, by the law of total variance.

    Takes ``weights [R, K]``, and ``means`` and ``variances [R, K, D]``.
    """
    shares = weights.unsqueeze(-1)
    overall = (shares * means).sum(-2, keepdim=True)
    # The square of a distance may overflow, and 0 · inf is NaN; a zero share contributes 0.
    terms = torch.where(shares > 0, shares * (variances + (means - overall).square()), 0.0)
    return terms.sum(-2, keepdim=True)
