"""A structure that the package does not have: probabilistic PCA with one direction.

Its estimate is not linear in the second moments. Source: Tipping and Bishop, Probabilistic
principal component analysis (1999), equations (7) and (8).
"""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance.full import FullCovariance
from tests.core.covariance.contract import StructureContract
from tests.core.families import Family
from tests.core.steps import iterate_beside, mixture_of


class PrincipalAxisCovariance(FullCovariance):
    """Matrices ``[..., K, D, D]`` λ v vᵀ + σ² (1 − v vᵀ), with λ ≥ σ² and unit vectors v.

    The density and the moments are those of any matrix.
    """

    name = "principal-axis"

    def num_covariance_parameters(self, num_components: int, num_features: int) -> int:
        # λ, σ² and a direction; in one dimension λ is all.
        return num_components * (1 if num_features == 1 else num_features + 1)

    def estimate(
        self, counts: Tensor, deviations: Tensor, second: Tensor, scatter: Tensor | None
    ) -> Tensor:
        return _nearest(super().estimate(counts, deviations, second, scatter))

    def fill_components(self, covariances: Tensor, chosen: Tensor, variances: Tensor) -> Tensor:
        nearest = _nearest(variances.diag_embed())
        return torch.where(chosen[..., None, None], nearest, covariances)


def _nearest(matrices: Tensor) -> Tensor:
    """Most likely members of the family where the rows have the covariance ``matrices``."""
    values, vectors = torch.linalg.eigh(matrices)
    if values.shape[-1] == 1:
        return matrices
    others = values[..., :-1].mean(-1, keepdim=True).expand_as(values[..., :-1])
    return (vectors * torch.cat([others, values[..., -1:]], -1).unsqueeze(-2)) @ vectors.mT


def most_likely(within: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The same matrix by matrix, from the direction of the largest variance."""
    result = []
    for matrix in within:
        largest, direction = max(
            zip(*_values_and_directions(matrix), strict=True), key=lambda pair: pair[0]
        )
        along = np.outer(direction, direction)
        across = np.eye(len(matrix)) - along
        rest = (np.trace(matrix) - largest) / max(1, len(matrix) - 1)
        result.append(largest * along + rest * across)
    return np.stack(result)


def _values_and_directions(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(matrix)
    return values, vectors.T


class TestPrincipalAxis(StructureContract):
    name = "principal-axis"
    # Five numbers a component in four dimensions: λ, σ² and three angles.
    num_covariance_parameters: ClassVar = {(3, 4): 15, (1, 3): 4, (4, 1): 4}
    own_structure = PrincipalAxisCovariance()
    own_family = Family(
        dense=lambda covariances, components, features: covariances, project=most_likely
    )

    def test_estimate_by_hand(self, structure):
        # Variances 1, 3 and 8 along the axes: 8 along the last, 2 on average across it.
        covariances = structure.estimate(
            counts=torch.tensor([2.0]),
            deviations=torch.zeros(1, 3),
            second=2.0 * torch.tensor([[1.0, 3.0, 8.0, 0.0, 0.0, 0.0]]),
            scatter=None,
        )
        np.testing.assert_allclose(covariances[0], np.diag([2.0, 2.0, 8.0]), rtol=1e-6)

    def test_covariances_about_fixed_means_stay_in_the_family(self, registered, rng):
        # Adding the squares of the distances to members of the family would leave it.
        before = mixture_of(rng, self.name, 3, 4)
        rows = rng.standard_normal((80, 4)) * [3.0, 1.0, 1.0, 0.5] + 1.0
        result, _ = iterate_beside(("means",), "fast", self.name, [before], rows)
        values = np.linalg.eigvalsh(result.parameters.covariances[0].numpy())
        np.testing.assert_allclose(values[:, 1:-1], values[:, :-2], rtol=1e-10)
        assert (values[:, -1] > 1.01 * values[:, -2]).all()
