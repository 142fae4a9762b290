"""Whether the likelihood rose, as EM promises.

An M-step maximizes Q, and the mean log-likelihood rises by no less than Q does. With A_k added to
the covariance of component k, which is what regularization does, the step maximizes
Q − ½ Σ_k π_k tr(A_k Σ_k⁻¹) instead, whatever the responsibilities. So the likelihood may fall, by

    ½ Σ_k π_k tr(A_k (Σ_k⁻¹ − Σ_k'⁻¹))

at the most, where Σ_k' are the new covariances and π_k the shares of the rows, which are the new
weights unless these are fixed. A fall beyond that and beyond rounding means that the arithmetic has
lost the likelihood.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.rounding import TOLERATED_ERROR
from sklearn_torch_gmm.em.settings import FitSettings

ERROR_FACTOR = 4.0
"""The bound on the error of a log-density leaves out the rounding of the natural parameters."""

SILENT_ROUNDING = 1e-3
"""A fall beyond this many nats is told even where ill-conditioned covariances explain it."""


def rounding_of_sums(likelihood: float, dtype: torch.dtype) -> float:
    """By how much two mean log-likelihoods, in nats, may differ under the same parameters."""
    of_densities = 2 * ERROR_FACTOR * TOLERATED_ERROR[dtype]
    return of_densities + 1000 * torch.finfo(dtype).eps * abs(likelihood)


def explained_fall(
    before: MixtureParameters, after: MixtureParameters, counts: Tensor, settings: FitSettings
) -> Tensor:
    """Fall of the mean log-likelihood ``[R]``, in nats, that an M-step may lead to.

    By what is added to the covariances, and by the rounding of the parameters.

    Parameters
    ----------
    before, after : MixtureParameters
    counts : Tensor [R, K]
        Weight of each component in rows, from which the step came.
    settings : FitSettings
    """
    structure, sizes = settings.structure, after.means.shape[-2:]
    # Not the weights after the step: they may be fixed.
    shares = counts / counts.sum(-1, keepdim=True)
    added = torch.zeros_like(after.covariances)
    if settings.regularization.keep_rounding:
        added = structure.at_least_rounding(added, after.means, counts)
    added = structure.regularize(added, settings.regularization.amount)
    precisions = structure.precisions(after.precisions_cholesky)
    lost = structure.precisions(before.precisions_cholesky) - precisions
    by_addition = structure.variances(added, *sizes) * structure.variances(lost, *sizes)
    by_addition = 0.5 * _mean(by_addition.clamp_min(0.0).sum(-1), shares)
    by_rounding = _mean(_rounding(after, precisions, settings), shares)
    return by_addition + by_rounding.clamp_max(SILENT_ROUNDING)


def _rounding(parameters: MixtureParameters, precisions: Tensor, settings: FitSettings) -> Tensor:
    """By how much rounded means and covariances change log-densities ``[R, K]``, to first order."""
    structure = settings.structure
    sizes = parameters.means.shape[1:]
    epsilon = torch.finfo(parameters.means.dtype).eps
    means = epsilon * parameters.means.abs()
    rounded = epsilon * structure.matrices(parameters.covariances, *sizes).abs()
    rounded = rounded + means.unsqueeze(-1) * means.unsqueeze(-2)
    return (structure.matrices(precisions, *sizes).abs() * rounded).sum((-2, -1))


def _mean(values: Tensor, shares: Tensor) -> Tensor:
    """Mean over the components ``[R, K]`` that have rows: ``[R]``."""
    return torch.where(shares > 0, shares * values, 0.0).sum(-1)
