"""A structure that the package does not have: one diagonal for all components, mclust's EEI.

It is shared, but not found from a pooled scatter: T₂ holds the squares, which the estimate sums
over the components.
"""

import math
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance.variance import VarianceCovariance
from tests.core.covariance.contract import StructureContract
from tests.core.families import Family


class SharedDiagonalCovariance(VarianceCovariance):
    """Variances ``[..., D]``; T₂(x) holds x_i²."""

    name = "shared-diag"
    is_shared = True

    def covariance_shape(self, num_components: int, num_features: int) -> tuple[int, ...]:
        return (num_features,)

    def num_covariance_parameters(self, num_components: int, num_features: int) -> int:
        return num_features

    def num_second_moments(self, num_features: int) -> int:
        return num_features

    def write_second_moments(self, x: Tensor, out: Tensor) -> None:
        torch.mul(x, x, out=out)

    def centred_second_moments(self, differences: Tensor, responsibilities: Tensor) -> Tensor:
        # Weighted before it is squared: the estimate sums over the components, and the square of a
        # distance may overflow where no row has a share.
        return (differences * responsibilities.unsqueeze(-2) * differences).sum(-1)

    def estimate(
        self, counts: Tensor, deviations: Tensor, second: Tensor, scatter: Tensor | None
    ) -> Tensor:
        within = second - counts.unsqueeze(-1) * deviations.square()
        return within.sum(-2) / counts.sum(-1, keepdim=True)

    def second_moments_of(self, covariances: Tensor, counts: Tensor, num_features: int) -> Tensor:
        return covariances.unsqueeze(-2) * counts.unsqueeze(-1)

    def single_row_covariances(
        self, rows: Tensor, count: float, data_scatter: Tensor | None
    ) -> Tensor:
        return self.pool(rows * rows / count - (rows / count).square())

    def pool(self, variances: Tensor) -> Tensor:
        return variances.mean(-2)

    def precisions_cholesky(
        self, covariances: Tensor, num_components: int
    ) -> tuple[Tensor, Tensor]:
        usable = ((covariances > 0) & (covariances < math.inf)).all(-1, keepdim=True)
        return covariances.rsqrt(), usable.expand(*covariances.shape[:-1], num_components)

    def variances(self, covariances: Tensor, num_components: int, num_features: int) -> Tensor:
        return _for_each(covariances, num_components)

    def smallest_eigenvalues(self, covariances: Tensor, num_components: int) -> Tensor:
        return _for_each(covariances, num_components).amin(-1)

    def fill_components(self, covariances: Tensor, chosen: Tensor, variances: Tensor) -> Tensor:
        return covariances

    def log_determinants(
        self, precisions_cholesky: Tensor, num_components: int, num_features: int
    ) -> Tensor:
        return _for_each(precisions_cholesky, num_components).log().sum(-1)

    def squared_distances(self, x: Tensor, means: Tensor, precisions_cholesky: Tensor) -> Tensor:
        whitened = (x - means.unsqueeze(-1)) * precisions_cholesky[..., None, :, None]
        return whitened.square().sum(-2)

    def log_density_coefficients(
        self, constants: Tensor, means: Tensor, precisions_cholesky: Tensor
    ) -> Tensor:
        precisions = _for_each(precisions_cholesky.square(), means.shape[-2])
        linear = means * precisions
        constants = constants - 0.5 * (means * linear).sum(-1)
        return torch.cat([constants.unsqueeze(-1), linear, -0.5 * precisions], dim=-1)

    def transform_noise(self, noise: Tensor, labels: Tensor, covariances: Tensor) -> Tensor:
        return noise * covariances.sqrt()


def _for_each(values: Tensor, num_components: int) -> Tensor:
    """``values [..., D]`` as those of each component: ``[..., K, D]``."""
    return values.unsqueeze(-2).expand(*values.shape[:-1], num_components, values.shape[-1])


def most_likely(within: np.ndarray, shares: np.ndarray) -> np.ndarray:
    return shares @ np.diagonal(within, axis1=1, axis2=2)


class TestSharedDiagonal(StructureContract):
    name = "shared-diag"
    num_covariance_parameters: ClassVar = {(3, 4): 4, (1, 3): 3, (4, 1): 1}
    own_structure = SharedDiagonalCovariance()
    own_family = Family(
        dense=lambda covariances, components, features: np.stack(
            [np.diag(covariances)] * components
        ),
        project=most_likely,
    )

    def test_estimate_of_two_components_of_two_points(self, structure):
        # ±1 about −3 and ±2 about 3: squares of 1, 1, 2 and 2, over four points.
        variances = structure.estimate(
            counts=torch.tensor([2.0, 2.0]),
            deviations=torch.tensor([[-3.0], [3.0]]),
            second=torch.tensor([[16.0 + 4.0], [1.0 + 25.0]]),
            scatter=None,
        )
        np.testing.assert_allclose(variances, [2.5])
