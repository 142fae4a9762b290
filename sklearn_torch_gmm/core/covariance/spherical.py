"""Each component has one variance, the same in every direction."""

from __future__ import annotations

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance.variance import (
    VarianceCovariance,
    are_positive_and_finite,
)


class SphericalCovariance(VarianceCovariance):
    """Variances ``[..., K]``; T₂(x) is ‖x‖²."""

    name = "spherical"

    def covariance_shape(self, num_components: int, num_features: int) -> tuple[int, ...]:
        return (num_components,)

    def num_covariance_parameters(self, num_components: int, num_features: int) -> int:
        return num_components

    def num_second_moments(self, num_features: int) -> int:
        return 1

    def write_second_moments(self, x: Tensor, out: Tensor) -> None:
        torch.sum(x.square(), dim=-2, keepdim=True, out=out)

    def centred_second_moments(self, differences: Tensor, responsibilities: Tensor) -> Tensor:
        return (differences.square().sum(-2) * responsibilities).sum(-1, keepdim=True)

    def estimate(
        self, counts: Tensor, deviations: Tensor, second: Tensor, scatter: Tensor | None
    ) -> Tensor:
        num_features = deviations.shape[-1]
        total = second.squeeze(-1) / counts - deviations.square().sum(-1)
        return total / num_features

    def second_moments_of(self, covariances: Tensor, counts: Tensor, num_features: int) -> Tensor:
        return (num_features * covariances * counts).unsqueeze(-1)

    def single_row_covariances(
        self, rows: Tensor, count: float, data_scatter: Tensor | None
    ) -> Tensor:
        return (rows * rows / count - (rows / count).square()).mean(-1)

    def pool(self, variances: Tensor) -> Tensor:
        return variances.mean(-1)

    def precisions_cholesky(
        self, covariances: Tensor, num_components: int
    ) -> tuple[Tensor, Tensor]:
        return covariances.rsqrt(), are_positive_and_finite(covariances)

    def variances(self, covariances: Tensor, num_components: int, num_features: int) -> Tensor:
        return covariances.unsqueeze(-1).expand(*covariances.shape, num_features)

    def smallest_eigenvalues(self, covariances: Tensor, num_components: int) -> Tensor:
        return covariances

    def fill_components(self, covariances: Tensor, chosen: Tensor, variances: Tensor) -> Tensor:
        return torch.where(chosen, variances.mean(-1), covariances)

    def log_determinants(
        self, precisions_cholesky: Tensor, num_components: int, num_features: int
    ) -> Tensor:
        return num_features * precisions_cholesky.log()

    def squared_distances(self, x: Tensor, means: Tensor, precisions_cholesky: Tensor) -> Tensor:
        distances = (x - means.unsqueeze(-1)).square().sum(-2)
        return distances * precisions_cholesky.square().unsqueeze(-1)

    def distance_bounds(self, deviations: Tensor, precisions_cholesky: Tensor) -> Tensor:
        lengths: Tensor = torch.linalg.vector_norm(deviations, dim=-1)
        return lengths * precisions_cholesky

    def transform_noise(self, noise: Tensor, labels: Tensor, covariances: Tensor) -> Tensor:
        return noise * covariances.sqrt()[labels].unsqueeze(-1)
