"""Each component has its own covariance matrix."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance.base import FEW_ROWS
from sklearn_torch_gmm.core.covariance.linalg import (
    entries_of,
    in_blocks,
    inverse_cholesky,
    pack_symmetric,
    symmetric_pairs,
    unpack_symmetric,
    write_products,
)
from sklearn_torch_gmm.core.covariance.matrix import MatrixCovariance


class FullCovariance(MatrixCovariance):
    """Covariances ``[..., K, D, D]``; T₂(x) holds each product x_i x_j once."""

    name = "full"

    def covariance_shape(self, num_components: int, num_features: int) -> tuple[int, ...]:
        return (num_components, num_features, num_features)

    def num_covariance_parameters(self, num_components: int, num_features: int) -> int:
        return num_components * num_features * (num_features + 1) // 2

    def num_second_moments(self, num_features: int) -> int:
        return num_features * (num_features + 1) // 2

    def write_second_moments(self, x: Tensor, out: Tensor) -> None:
        write_products(x, out)

    def centred_second_moments(self, differences: Tensor, responsibilities: Tensor) -> Tensor:
        weighted = differences * responsibilities.unsqueeze(-2)
        return pack_symmetric(weighted @ differences.mT)

    def second_moments_of_scatter(self, scatter: Tensor) -> Tensor:
        return pack_symmetric(scatter)

    def estimate(
        self, counts: Tensor, deviations: Tensor, second: Tensor, scatter: Tensor | None
    ) -> Tensor:
        num_features = deviations.shape[-1]
        about_point = unpack_symmetric(second / counts.unsqueeze(-1), num_features)
        return about_point.addcmul_(deviations.unsqueeze(-1), deviations.unsqueeze(-2), value=-1.0)

    def second_moments_of(self, covariances: Tensor, counts: Tensor, num_features: int) -> Tensor:
        return pack_symmetric(covariances) * counts.unsqueeze(-1)

    def single_row_covariances(
        self, rows: Tensor, count: float, data_scatter: Tensor | None
    ) -> Tensor:
        residuals = rows - rows / count
        return residuals.unsqueeze(-1) * residuals.unsqueeze(-2) / count

    def at_least_rounding(
        self,
        covariances: Tensor,
        means: Tensor,
        deviations: Tensor,
        counts: Tensor,
        spread: Tensor,
    ) -> Tensor:
        # scikit-learn divides the sum of the rows by a count that is larger by 10 eps, and takes
        # residuals about that point.
        shares = torch.where(counts < FEW_ROWS, 10 * torch.finfo(means.dtype).eps / counts, 0.0)
        shifts = means * shares.unsqueeze(-1)
        return torch.addcmul(covariances, shifts.unsqueeze(-1), shifts.unsqueeze(-2))

    def precisions_cholesky(
        self, covariances: Tensor, num_components: int
    ) -> tuple[Tensor, Tensor]:
        return inverse_cholesky(covariances)

    def variances(self, covariances: Tensor, num_components: int, num_features: int) -> Tensor:
        return covariances.diagonal(dim1=-2, dim2=-1)

    def matrices(self, covariances: Tensor, num_components: int, num_features: int) -> Tensor:
        return covariances

    def smallest_eigenvalues(self, covariances: Tensor, num_components: int) -> Tensor:
        eigenvalues: Tensor = torch.linalg.eigvalsh(covariances)
        return eigenvalues[..., 0]

    def fill_components(self, covariances: Tensor, chosen: Tensor, variances: Tensor) -> Tensor:
        # In place: these are the largest tensors of an M-step.
        covariances.masked_fill_(chosen[..., None, None], 0.0)
        own = covariances.diagonal(dim1=-2, dim2=-1)
        own.copy_(torch.where(chosen.unsqueeze(-1), variances, own))
        return covariances

    def log_determinants(
        self, precisions_cholesky: Tensor, num_components: int, num_features: int
    ) -> Tensor:
        return precisions_cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def squared_distances(self, x: Tensor, means: Tensor, precisions_cholesky: Tensor) -> Tensor:
        residuals = x - means.unsqueeze(-1)
        return (precisions_cholesky.mT @ residuals).square().sum(-2)

    def log_density_coefficients(
        self, constants: Tensor, means: Tensor, precisions_cholesky: Tensor
    ) -> Tensor:
        factors, rows = precisions_cholesky.flatten(0, -3), means.flatten(0, -2).unsqueeze(1)
        blocks = list(in_blocks(factors))
        if len(blocks) == 1:
            coefficients = _coefficients_of_distances(rows, factors)
        else:
            coefficients = torch.cat(
                [_coefficients_of_distances(rows[block], factors[block]) for block in blocks]
            )
        coefficients = coefficients.view(*means.shape[:-1], -1)
        coefficients[..., 0].add_(constants)
        return coefficients

    def distance_bounds(self, deviations: Tensor, precisions_cholesky: Tensor) -> Tensor:
        whitened = precisions_cholesky.abs().mT @ deviations.abs().unsqueeze(-1)
        bound: Tensor = torch.linalg.vector_norm(whitened.squeeze(-1), dim=-1)
        return bound

    def transform_noise(self, noise: Tensor, labels: Tensor, covariances: Tensor) -> Tensor:
        # Sorted by component, so that reading where each ends is the only wait for a device.
        lower = torch.linalg.cholesky(covariances)
        ordered, order = labels.sort(stable=True)
        components = torch.arange(covariances.shape[0], device=labels.device)
        ends: list[int] = torch.searchsorted(ordered, components, right=True).tolist()
        parts = noise[order].tensor_split(ends[:-1])
        scaled = [part @ factor.mT for part, factor in zip(parts, lower, strict=True)]
        return torch.empty_like(noise).index_copy_(0, order, torch.cat(scaled))


def _coefficients_of_distances(means: Tensor, factors: Tensor) -> Tensor:
    """The coefficients ``[n, 1 + P]`` for ``means [n, 1, D]`` and ``factors [n, D, D]``."""
    # With (Uᵀμ, U) as rows, one product has μᵀΣ⁻¹μ, Σ⁻¹μ and Σ⁻¹ as its blocks.
    rows = torch.cat([torch.bmm(means, factors), factors], dim=1)
    products = torch.bmm(rows, rows.mT).flatten(1)
    places, shares = _layout(means.shape[-1], means.dtype, means.device)
    return entries_of(products, places).mul_(shares)


@lru_cache(maxsize=64)
def _layout(size: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """The entries of the product that the coefficients are, and their factors: ``[1 + P]``."""
    first, second = symmetric_pairs(size, device)
    with torch.inference_mode(mode=False):
        places = torch.arange(1 + size + len(first), device=device)
        places[1 + size :] = (first + 1) * (size + 1) + second + 1
        shares = torch.full(places.shape, -0.5, dtype=dtype, device=device)
        shares[1 : 1 + size] = 1.0
        # The squares come first; each other product x_i x_j stands for two entries of the matrix.
        shares[1 + 2 * size :] = -1.0
        return places, shares
