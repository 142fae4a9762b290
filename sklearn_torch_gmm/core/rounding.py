"""How many digits the fast E-step, and the M-step that follows it, may lose.

The fast E-step expands the square of x − μ; where the spread of the data is large against the width
of a component, its terms cancel. The bounds here come from quantities of size K and D, so that each
iteration can tell whether the exact E-step is needed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.parameters import MixtureParameters

TOLERATED_ERROR = {torch.float64: 2e-7, torch.float32: 1e-4}
"""Largest rounding error of a log-density, in nats, that the fast E-step may have.

:func:`cancellation` estimates it.
"""


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
