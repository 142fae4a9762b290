"""The largest fall of the likelihood that regularization and rounding explain.

An M-step maximizes Q, and the mean log-likelihood rises by no less than Q does. Regularization adds
A_k to the covariance of component k; whatever the responsibilities, the step then maximizes
Q − ½ Σ_k π_k tr(A_k Σ_k⁻¹) instead. So the likelihood may fall, by at most

    ½ Σ_k π_k tr(A_k (Σ_k⁻¹ − Σ_k'⁻¹))

where Σ_k' are the new covariances and π_k the fractions of the rows, which are the new weights
unless these are fixed. A fall beyond that and beyond rounding is an error of the arithmetic.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sklearn_torch_gmm.core.m_step import total_variances
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.em.settings import FitSettings

ERROR_FACTOR = 4.0
"""Margin for the rounding of the natural parameters, which the bound on the error of a log-density
leaves out; measured, it adds a factor of up to 2.5."""

SILENT_ROUNDING = 1e-3
"""A fall beyond this many nats is reported even where ill-conditioned covariances explain it. It is
the default convergence threshold: EM does not count smaller changes."""


def rounding_of_sums(likelihood: float, dtype: torch.dtype, tolerated: float) -> float:
    """Return the largest difference of mean log-likelihoods of the same parameters, in nats.

    ``tolerated`` is the error that log-densities may have.
    """
    of_densities = 2 * ERROR_FACTOR * tolerated
    # A sum of a million terms is rounded to about eps times the root of their number: 1000 eps.
    return of_densities + 1000 * torch.finfo(dtype).eps * abs(likelihood)


def explained_fall(
    before: MixtureParameters, after: MixtureParameters, counts: Tensor, settings: FitSettings
) -> Tensor:
    """Return the largest fall ``[R]`` of the mean log-likelihood by an M-step, in nats.

    Two causes add up: the regularization of the covariances, and the rounding of the parameters.
    ``counts [R, K]`` are the weights of the components, in rows, that the step started from.
    """
    structure, sizes = settings.structure, after.means.shape[-2:]
    # Not the weights after the step: they may be fixed.
    shares = counts / counts.sum(-1, keepdim=True)
    added = torch.zeros_like(after.covariances)
    if settings.regularization.keep_rounding:
        # The scatter of equal rows is zero.
        variances = structure.variances(after.covariances, *sizes)
        spread = total_variances(shares, after.means, variances)
        added = structure.at_least_rounding(
            added, after.means, torch.zeros_like(after.means), counts, spread
        )
    added = structure.regularize(added, settings.regularization.amount)
    precisions = structure.precisions(after.precisions_cholesky)
    lost = structure.precisions(before.precisions_cholesky) - precisions
    by_addition = structure.variances(added, *sizes) * structure.variances(lost, *sizes)
    by_addition = 0.5 * _mean(by_addition.clamp_min(0.0).sum(-1), shares)
    by_rounding = _mean(_rounding(after, precisions, settings), shares)
    return by_addition + by_rounding.clamp_max(SILENT_ROUNDING)


def _rounding(parameters: MixtureParameters, precisions: Tensor, settings: FitSettings) -> Tensor:
    """Change of log-densities ``[R, K]`` by rounded means and covariances, to first order."""
    structure = settings.structure
    sizes = parameters.means.shape[1:]
    epsilon = torch.finfo(parameters.means.dtype).eps
    means = epsilon * parameters.means.abs()
    rounded = epsilon * structure.matrices(parameters.covariances, *sizes).abs()
    rounded = rounded + means.unsqueeze(-1) * means.unsqueeze(-2)
    return (structure.matrices(precisions, *sizes).abs() * rounded).sum((-2, -1))


def _mean(values: Tensor, shares: Tensor) -> Tensor:
    """Return the mean ``[R]`` over the components ``[R, K]`` that have rows."""
    return torch.where(shares > 0, shares * values, 0.0).sum(-1)
