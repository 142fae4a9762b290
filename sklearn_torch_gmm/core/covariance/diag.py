"""Features are independent, and each component has its own variances."""

from __future__ import annotations

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance.variance import (
    VarianceCovariance,
    are_positive_and_finite,
)


class DiagonalCovariance(VarianceCovariance):
    """Variances ``[..., K, D]``; T₂(x) holds x_i²."""

    name = "diag"

    def covariance_shape(self, num_components: int, num_features: int) -> tuple[int, ...]:
        return (num_components, num_features)

    def num_covariance_parameters(self, num_components: int, num_features: int) -> int:
        return num_components * num_features

    def num_second_moments(self, num_features: int) -> int:
        return num_features

    def write_second_moments(self, x: Tensor, out: Tensor) -> None:
        torch.mul(x, x, out=out)

    def centred_second_moments(self, differences: Tensor, responsibilities: Tensor) -> Tensor:
        squares = differences.square()
        if squares.shape[-1] == 1:
            # Products of matrices, as in the next line, take four times as long.
            return squares.squeeze(-1) * responsibilities
        return (squares @ responsibilities.unsqueeze(-1)).squeeze(-1)

    def estimate(
        self, counts: Tensor, deviations: Tensor, second: Tensor, scatter: Tensor | None
    ) -> Tensor:
        return second / counts.unsqueeze(-1) - deviations.square()

    def second_moments_of(self, covariances: Tensor, counts: Tensor, num_features: int) -> Tensor:
        return covariances * counts.unsqueeze(-1)

    def single_row_covariances(
        self, rows: Tensor, count: float, data_scatter: Tensor | None
    ) -> Tensor:
        return rows * rows / count - (rows / count).square()

    def pool(self, variances: Tensor) -> Tensor:
        return variances

    def precisions_cholesky(
        self, covariances: Tensor, num_components: int
    ) -> tuple[Tensor, Tensor]:
        return covariances.rsqrt(), are_positive_and_finite(covariances).all(-1)

    def variances(self, covariances: Tensor, num_components: int, num_features: int) -> Tensor:
        return covariances

    def smallest_eigenvalues(self, covariances: Tensor, num_components: int) -> Tensor:
        return covariances.amin(-1)

    def fill_components(self, covariances: Tensor, chosen: Tensor, variances: Tensor) -> Tensor:
        return torch.where(chosen.unsqueeze(-1), variances, covariances)

    def log_determinants(
        self, precisions_cholesky: Tensor, num_components: int, num_features: int
    ) -> Tensor:
        return precisions_cholesky.log().sum(-1)

    def squared_distances(self, x: Tensor, means: Tensor, precisions_cholesky: Tensor) -> Tensor:
        whitened = (x - means.unsqueeze(-1)) * precisions_cholesky.unsqueeze(-1)
        return whitened.square().sum(-2)

    def distance_bounds(self, deviations: Tensor, precisions_cholesky: Tensor) -> Tensor:
        bound: Tensor = torch.linalg.vector_norm(deviations * precisions_cholesky, dim=-1)
        return bound

    def transform_noise(self, noise: Tensor, labels: Tensor, covariances: Tensor) -> Tensor:
        return noise * covariances.sqrt()[labels]
