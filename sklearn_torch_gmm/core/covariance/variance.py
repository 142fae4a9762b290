"""The common base of the structures that store variances."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance.base import FEW_ROWS, CovarianceStructure

ROUNDING = 16.0
"""Factor for the roundings of a sum of squares, its quotient and its difference, with a margin.

With twice the value, rows that differ by half as much again would be taken for equal.
"""


MOST_OF_SPREAD = 0.01
"""Part of the variance of the data up to which equal rows have scikit-learn's variance.

Farther from the origin, all of scikit-learn's variances are rounding, and the rows of a component
that has collapsed would be spread over the data. With twice the value, by two fifths more.
"""


def are_positive_and_finite(values: Tensor) -> Tensor:
    """Whether each of the values is positive and finite, in half the time of two comparisons."""
    # Infinity minus itself is NaN, which is not less than anything.
    return values - values < values


class VarianceCovariance(CovarianceStructure):
    """Covariances are variances; the factor of a precision is its square root."""

    has_independent_features = True

    def matrices(self, covariances: Tensor, num_components: int, num_features: int) -> Tensor:
        return self.variances(covariances, num_components, num_features).diag_embed()

    @abstractmethod
    def pool(self, variances: Tensor) -> Tensor:
        """Reduce variances ``[..., K, D]`` to the shape of the covariances."""

    def at_least_rounding(
        self,
        covariances: Tensor,
        means: Tensor,
        deviations: Tensor,
        counts: Tensor,
        spread: Tensor,
    ) -> Tensor:
        # scikit-learn divides E[x²] and E[x] by counts that are larger by 10 eps, so that an
        # E[x²] - E[x]² that should be zero becomes 10 eps μ² / count. With five rows or more, that
        # is lost in the rounding of the squares by 2 eps.
        epsilon = torch.finfo(means.dtype).eps
        excess = 10 * epsilon * means.square() / counts.unsqueeze(-1)
        least = torch.where(counts.unsqueeze(-1) < FEW_ROWS, excess, 0.0)
        # The variance of a constant feature is rounding as well, and no measure for it.
        is_constant = spread <= ROUNDING * (epsilon * means).square()
        is_far = 10 * epsilon * means.square() > MOST_OF_SPREAD * spread
        least = torch.where(is_far & ~is_constant, 0.0, least)
        # Rows that differ have a variance of their own, which only scikit-learn loses.
        rounding = ROUNDING * epsilon * (deviations.square() + epsilon * means.square())
        are_equal = covariances <= self.pool(rounding)
        return torch.where(are_equal, torch.maximum(covariances, self.pool(least)), covariances)

    def regularize(self, covariances: Tensor, amount: float) -> Tensor:
        return covariances.add_(amount)

    def precisions_cholesky_from_precisions(self, precisions: Tensor) -> Tensor:
        return precisions.sqrt()

    def precisions(self, precisions_cholesky: Tensor) -> Tensor:
        return precisions_cholesky.square()

    def log_density_coefficients(
        self, constants: Tensor, means: Tensor, precisions_cholesky: Tensor
    ) -> Tensor:
        # One for each feature, or for all of them.
        precisions = precisions_cholesky.square().view(*means.shape[:-1], -1)
        linear = means * precisions
        constants = torch.sub(constants, (means * linear).sum(-1), alpha=0.5)
        return torch.cat([constants.unsqueeze(-1), linear, precisions.mul_(-0.5)], dim=-1)

    def unit_covariances(self, like: Tensor) -> Tensor:
        return like.new_ones(like.shape)

    def covariances(self, precisions_cholesky: Tensor) -> Tensor:
        return precisions_cholesky.square().reciprocal()

    def log_cholesky(self, precisions_cholesky: Tensor, scale: Tensor) -> Tensor:
        return precisions_cholesky.log()

    def from_log_cholesky(self, coordinates: Tensor, scale: Tensor) -> Tensor:
        return coordinates.exp()
