"""Bounds on the rounding errors of the fast E-step and of the M-step that follows it.

The fast E-step expands the square of x − μ, whose terms cancel if the spread of the data is large
relative to the standard deviation of a component. The bounds are computed from quantities of size
K and D, so that each iteration can decide whether the exact E-step is needed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.parameters import MixtureParameters

TOLERATED_ERROR = {torch.float64: 2e-7, torch.float32: 1e-4}
"""Largest estimate of :func:`cancellation`, in nats, for which the fast E-step is used.

Twice the value lets twice the error into log-densities before the slower exact E-step takes over.
"""

TOLERATED_BESIDE_CHANGES = {torch.float64: 2e-7, torch.float32: 1e-3}
"""The same where no change of the mean log-likelihood below it counts.

With 1e-4, fits of iris and wine in float32 would take up to 2.7 times as long. With twice the
value, log-densities could be off by two thousandths of a nat.
"""

TOLERATED_LOSS = {torch.float64: 2e-10, torch.float32: 1e-4}
"""Largest estimate of :func:`rounding_of_whitening` for which rows are whitened.

Twice the value lets twice the error into covariances before residuals take over.
"""

MOST_RELATIVE_ERROR = 0.01
"""Bound on the relative error of the squared distances that products estimate when sifting.

It also bounds the part of a covariance that its own rounding may be for rows to be whitened. With
twice the value, more components could be sifted, and more rows would be taken for relevant.
"""

OBSERVED_EXCESS = 4.0
"""Factor above the largest ratio of an error to its estimate, 2.5, for bounds that must hold."""


def extents_of(x: Tensor) -> Tensor:
    """Maximum absolute deviations ``[D]`` of ``x [T, D, n]`` from the centre, without a copy."""
    return torch.maximum(x.amax((0, 2)), x.amin((0, 2)).neg_())


def rounding_of_moments(extents: Tensor, structure: CovarianceStructure) -> Tensor:
    """Eps · (1, T) ``[1 + P]`` of maximum absolute deviations ``[D]``: a bound for all rows."""
    num_features = extents.shape[0]
    moments = extents.new_empty(1 + structure.num_moments(num_features), 1)
    moments[1 : num_features + 1, 0] = extents
    structure.complete_moments(moments, num_features)
    return moments.squeeze(-1).mul_(torch.finfo(moments.dtype).eps)


def cancellation(natural: Tensor, rounding: Tensor, *, may_vanish: bool = True) -> Tensor:
    """Rounding error of the fast E-step's log-densities, in nats.

    A log-density is the product η · (1, T(x)). Each of its terms is rounded by eps of its size: the
    error is about eps · Σ_p |η_p| max |T_p|. Errors of up to 2.5 times that have been observed over
    many rows, since η itself is rounded.

    Takes the ``natural`` parameters ``[R, K, 1 + P]`` about the centre and the bounds
    :func:`rounding_of_moments`; returns the maximum ``[R]`` over the components of each mixture.
    Unless components ``may_vanish``, the error of a mixture is infinite if one has no weight.
    """
    coefficients = natural.abs()
    if may_vanish:
        # A component of weight zero has the constant −∞, which carries no rounding error. That of
        # a factor that overflows is infinite, too, but so are its other coefficients.
        coefficients[..., 0].nan_to_num_(nan=math.nan, posinf=0.0)
    # A product of few numbers as a sum, which takes half the time of a matrix product.
    return coefficients.mul_(rounding).sum(-1).amax(-1)


def cancellation_of_scatter(precisions_cholesky: Tensor, extents: Tensor) -> Tensor:
    """Rounding error ``[R]``, in nats, of the mean of −½ xᵀ Σ⁻¹ x computed from Σ x xᵀ.

    That is −½ tr(Uᵀ S U) for U Uᵀ = Σ⁻¹, with U ``[R, D, D]`` shared by all components, and the
    mean S of x xᵀ. Each of its terms is rounded by eps of its size, and no |x_i x_j| exceeds the
    product of the maximum absolute deviations ``extents [D]``.
    """
    # As a sum, like the product above.
    largest = precisions_cholesky.abs().mul_(extents.unsqueeze(-1)).sum(-2)
    return 0.5 * torch.finfo(extents.dtype).eps * largest.square().sum(-1)


def cancellation_of_moments(
    parameters: MixtureParameters, centre: Tensor, structure: CovarianceStructure
) -> Tensor:
    """Rounding error ``[R]`` of covariances computed from moments about ``centre [R, K, D]``.

    It is relative to the covariances, and the maximum over the components. (μ − c)(μ − c)ᵀ is
    subtracted, each entry of which is rounded: by up to eps · ‖ |Uᵀ| |μ − c| ‖² of the covariance.
    An error below that of the covariance itself, whose entries are rounded, too, counts as zero: no
    other point c would avoid it.
    """
    away = structure.distance_bounds(parameters.means - centre, parameters.precisions_cholesky)
    growth = growth_of_rounding(parameters, structure)
    lost, least = rounding_of_sums(away), rounding_of_sums(growth)
    # Not `torch.where(lost > least, lost, 0.0)`, which would take NaN for no error at all.
    return lost.masked_fill_(lost <= least, 0.0).amax(-1)


def typical_distance(num_features: int) -> float:
    """A distance from a mean, in standard deviations, beyond which hardly any row lies.

    The squared distances of a component's own rows have the mean D and the variance 2 D. Rows
    farther out have log-densities so far below the others that their relative error counts.
    """
    return 2.0 * math.sqrt(num_features + 8.0)


def cancellation_of_products(away: Tensor, growth: Tensor, num_features: int) -> Tensor:
    """Rounding error of log-densities η T(x − c), in nats, for rows at a typical distance.

    With b = |Uᵀ| |x − c|, the terms of the expanded square add up to less than ½ ‖a + b‖², where
    a = |Uᵀ| |μ − c|. A row at the distance ‖z‖ from the mean has ‖b‖ ≤ ‖a‖ + ``growth`` ‖z‖, so
    that ½ ‖a + b‖² ≤ 4 ‖a‖² + growth² ‖z‖². The second term is the error that residuals have, too,
    except for another growth. How far the rows lie from the centre does not matter.

    Takes the lengths ``away [R, K]`` of a, and ``growth [R, K]``, which is the largest ratio of
    ‖ |Uᵀ| |x| ‖ to ‖Uᵀ x‖.
    """
    distance = growth * typical_distance(num_features)
    return torch.finfo(away.dtype).eps * (4.0 * away.square() + distance.square())


def cancellation_of_whitening(away: Tensor, num_features: int) -> Tensor:
    """The same for −½ ‖Uᵀ(x − c) − Uᵀ(μ − c)‖², beyond the error that residuals have."""
    return 2.0 * torch.finfo(away.dtype).eps * typical_distance(num_features) * away


def absolute_error_of_products(away: Tensor) -> Tensor:
    """The first term of :func:`cancellation_of_products` as a bound that holds, in nats."""
    # A tenth more covers the second term's part of it.
    return 4.4 * OBSERVED_EXCESS * torch.finfo(away.dtype).eps * away.square()


def relative_error_of_products(growth: Tensor) -> Tensor:
    """The second term for any distance, relative to half the squared distance."""
    return 2.2 * OBSERVED_EXCESS * torch.finfo(growth.dtype).eps * growth.square()


def rounding_of_whitening(away: Tensor) -> Tensor:
    """Relative rounding error of covariances from whitened rows."""
    return torch.finfo(away.dtype).eps * away


def rounding_of_sums(away: Tensor) -> Tensor:
    """Relative rounding error of covariances from sums of products of two features.

    It is that of moments about a point, ``away`` being the length of |Uᵀ| |μ − c|. Before the
    M-step, it is an estimate; afterwards, :func:`cancellation_of_moments` tells it.
    """
    return torch.finfo(away.dtype).eps * away.square()


def growth_of_rounding(parameters: MixtureParameters, structure: CovarianceStructure) -> Tensor:
    """A bound ``[R, K]`` on the ratio of ‖ |Uᵀ| |x| ‖ to ‖Uᵀ x‖, one for independent features.

    For x = Uᵀ⁻¹ z, no |x_i| exceeds the standard deviation of the feature times ‖z‖.
    """
    if structure.has_independent_features:
        return torch.ones_like(parameters.weights)
    sizes = parameters.means.shape[-2:]
    return _growth(parameters.covariances, parameters.precisions_cholesky, structure, *sizes)


def growth_of_factors(
    precisions_cholesky: Tensor,
    structure: CovarianceStructure,
    num_components: int,
    num_features: int,
) -> Tensor:
    """The same ``[..., K]`` for dependent features whose covariances are not at hand."""
    covariances = structure.covariances(precisions_cholesky)
    return _growth(covariances, precisions_cholesky, structure, num_components, num_features)


def _growth(
    covariances: Tensor,
    precisions_cholesky: Tensor,
    structure: CovarianceStructure,
    num_components: int,
    num_features: int,
) -> Tensor:
    variances = structure.variances(covariances, num_components, num_features)
    return structure.distance_bounds(variances.sqrt(), precisions_cholesky)


def are_reliable(parameters: MixtureParameters, structure: CovarianceStructure) -> Tensor:
    """Bools ``[R, K]``: components whose Cholesky factor is more than rounding error.

    False, too, for a covariance that is not finite, and for a factor that overflows: some back ends
    factor NaN without an error.
    """
    num_features = parameters.means.shape[-1]
    limit = largest_growth(num_features, parameters.means.dtype)
    return growth_of_rounding(parameters, structure) < limit


def largest_growth(num_features: int, dtype: torch.dtype) -> float:
    """Limit of :func:`growth_of_rounding`, beyond which a Cholesky factor is rounding error.

    For Σ = L Lᵀ, L_jj² is the variance of feature j given the previous ones. The computed factor is
    that of a matrix whose entries are off by about ½ √D eps σ_i σ_j, where rounding errors of both
    signs are summed; at worst it is ½ (D + 1) eps (Higham, theorem 10.3). L⁻¹_ji L_jj are the
    coefficients of the residual that L_jj² is the variance of, so L_jj² is off by that times
    (Σ_i |L⁻¹_ji| σ_i)² L_jj²: by half of itself at the limit. Of thousands of singular matrices
    with a factor, under four instruction sets of MKL, the nearest one exceeded the limit by half.
    With half the limit, some matrices of three features and the condition 1e15 would be refused.

    Source: Higham, Accuracy and Stability of Numerical Algorithms (2002), section 10.1.
    """
    return float((num_features**0.5 * torch.finfo(dtype).eps) ** -0.5)
