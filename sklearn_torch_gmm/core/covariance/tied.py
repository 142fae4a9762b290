"""All components share one covariance matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance.linalg import inverse_cholesky, product
from sklearn_torch_gmm.core.covariance.matrix import MatrixCovariance


class TiedCovariance(MatrixCovariance):
    """One covariance ``[..., D, D]``; T₂(x) is empty.

    The quadratic term −½ xᵀ Σ⁻¹ x is common to all components: it cancels in the responsibilities,
    and its sum over the rows is −½ tr(Σ⁻¹ Σ_n x xᵀ). An iteration thus costs only O(N D K).
    """

    name = "tied"
    is_shared = True
    has_pooled_scatter = True

    def covariance_shape(self, num_components: int, num_features: int) -> tuple[int, ...]:
        return (num_features, num_features)

    def num_covariance_parameters(self, num_components: int, num_features: int) -> int:
        return num_features * (num_features + 1) // 2

    def num_second_moments(self, num_features: int) -> int:
        return 0

    def write_second_moments(self, x: Tensor, out: Tensor) -> None:
        pass

    def centred_second_moments(self, differences: Tensor, responsibilities: Tensor) -> Tensor:
        weighted = differences * responsibilities.unsqueeze(-2)
        return (weighted @ differences.mT).sum(-3)

    def second_moments_of_scatter(self, scatter: Tensor) -> Tensor:
        return scatter.sum(-3)

    def estimate(
        self, counts: Tensor, deviations: Tensor, second: Tensor, scatter: Tensor | None
    ) -> Tensor:
        assert scatter is not None
        between = product((counts.unsqueeze(-1) * deviations).mT, deviations)
        halves = (scatter - between) / (2.0 * counts.sum(-1)[..., None, None])
        # The product above is symmetric only up to rounding.
        return halves + halves.mT

    def second_moments_of(self, covariances: Tensor, counts: Tensor, num_features: int) -> Tensor:
        return covariances * counts.sum(-1)[..., None, None]

    def single_row_covariances(
        self, rows: Tensor, count: float, data_scatter: Tensor | None
    ) -> Tensor:
        assert data_scatter is not None
        means = rows / count
        return (data_scatter - (count * means.mT) @ means) / (count * rows.shape[0])

    def precisions_cholesky(
        self, covariances: Tensor, num_components: int
    ) -> tuple[Tensor, Tensor]:
        factor, usable = inverse_cholesky(covariances)
        return factor, usable.unsqueeze(-1).expand(*usable.shape, num_components)

    def variances(self, covariances: Tensor, num_components: int, num_features: int) -> Tensor:
        variances = covariances.diagonal(dim1=-2, dim2=-1).unsqueeze(-2)
        return variances.expand(*covariances.shape[:-2], num_components, num_features)

    def matrices(self, covariances: Tensor, num_components: int, num_features: int) -> Tensor:
        shape = (*covariances.shape[:-2], num_components, num_features, num_features)
        return covariances.unsqueeze(-3).expand(shape)

    def smallest_eigenvalues(self, covariances: Tensor, num_components: int) -> Tensor:
        eigenvalues: Tensor = torch.linalg.eigvalsh(covariances)
        return eigenvalues[..., :1].expand(*covariances.shape[:-2], num_components)

    def fill_components(self, covariances: Tensor, chosen: Tensor, variances: Tensor) -> Tensor:
        # An empty component does not change the covariance that it shares with the others.
        return covariances

    def log_determinants(
        self, precisions_cholesky: Tensor, num_components: int, num_features: int
    ) -> Tensor:
        diagonal = precisions_cholesky.diagonal(dim1=-2, dim2=-1)
        return diagonal.log().sum(-1, keepdim=True).expand(*diagonal.shape[:-1], num_components)

    def squared_distances(self, x: Tensor, means: Tensor, precisions_cholesky: Tensor) -> Tensor:
        # Whitening rows and means separately would take one product instead of K, but cancellation
        # of their common offset would cost precision.
        residuals = x - means.unsqueeze(-1)
        return (precisions_cholesky.mT.unsqueeze(-3) @ residuals).square().sum(-2)

    def log_density_coefficients(
        self, constants: Tensor, means: Tensor, precisions_cholesky: Tensor
    ) -> Tensor:
        whitened = product(means, precisions_cholesky)
        constants = torch.sub(constants, whitened.square().sum(-1), alpha=0.5).unsqueeze(-1)
        linear = product(whitened, precisions_cholesky.mT)
        return torch.cat([constants, linear], dim=-1)

    def common_log_densities(self, x: Tensor, precisions_cholesky: Tensor) -> Tensor | float:
        return -0.5 * (precisions_cholesky.mT @ x).square_().sum(-2, keepdim=True)

    def distance_bounds(self, deviations: Tensor, precisions_cholesky: Tensor) -> Tensor:
        whitened = deviations.abs() @ precisions_cholesky.abs()
        bound: Tensor = torch.linalg.vector_norm(whitened, dim=-1)
        return bound

    def transform_noise(self, noise: Tensor, labels: Tensor, covariances: Tensor) -> Tensor:
        lower: Tensor = torch.linalg.cholesky(covariances)
        return noise @ lower.mT
