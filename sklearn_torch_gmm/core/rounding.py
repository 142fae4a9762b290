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


def extents_of(x: Tensor) -> Tensor:
    """Maximum absolute deviations ``[D]`` of ``x [T, D, n]`` from the centre, without a copy."""
    return torch.maximum(x.amax((0, 2)), x.amin((0, 2)).neg_())


def largest_moments(extents: Tensor, structure: CovarianceStructure) -> Tensor:
    """(1, T) ``[1 + P, 1]`` of maximum absolute deviations ``[D]``: a bound for all rows."""
    num_features = extents.shape[0]
    moments = extents.new_empty(1 + structure.num_moments(num_features), 1)
    moments[1 : num_features + 1, 0] = extents
    structure.complete_moments(moments, num_features)
    return moments


def cancellation(natural: Tensor, largest: Tensor) -> Tensor:
    """Rounding error of the fast E-step's log-densities, in nats.

    A log-density is the product η · (1, T(x)). Each of its terms is rounded by eps of its size: the
    error is about eps · Σ_p |η_p| max |T_p|. Errors of up to 2.5 times that have been observed over
    many rows, since η itself is rounded.

    Takes the ``natural`` parameters ``[R, K, 1 + P]`` about the centre and the bounds
    :func:`largest_moments`; returns the maximum ``[R]`` over the components of each mixture.
    """
    coefficients = natural.abs()
    # A component of weight zero has the constant −∞, which carries no rounding error.
    coefficients[..., 0].masked_fill_(natural[..., 0] == -math.inf, 0.0)
    epsilon = torch.finfo(natural.dtype).eps
    return epsilon * (coefficients @ largest).amax((-2, -1))


def cancellation_of_scatter(precisions_cholesky: Tensor, extents: Tensor) -> Tensor:
    """Rounding error ``[R]``, in nats, of the mean of −½ xᵀ Σ⁻¹ x computed from Σ x xᵀ.

    That is −½ tr(Uᵀ S U) for U Uᵀ = Σ⁻¹, with U ``[R, D, D]`` shared by all components, and the
    mean S of x xᵀ. Each of its terms is rounded by eps of its size, and no |x_i x_j| exceeds the
    product of the maximum absolute deviations ``extents [D]``.
    """
    largest = extents @ precisions_cholesky.abs()
    return 0.5 * torch.finfo(extents.dtype).eps * largest.square().sum(-1)


def cancellation_of_moments(
    parameters: MixtureParameters, centre: Tensor, structure: CovarianceStructure
) -> Tensor:
    """Rounding error ``[R]`` of covariances computed from moments about ``centre [R, K, D]``.

    It is relative to the covariances, and the maximum over the components: eps · (μ − c)ᵀ Σ⁻¹
    (μ − c), since (μ − c)(μ − c)ᵀ is subtracted.
    """
    deviations = parameters.means - centre
    linear = structure.linear_coefficients(deviations, parameters.precisions_cholesky)
    return torch.finfo(deviations.dtype).eps * (deviations * linear).sum(-1).amax(-1)
