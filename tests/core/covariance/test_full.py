from typing import ClassVar

import numpy as np
import pytest
import torch

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.covariance.full import FullCovariance
from sklearn_torch_gmm.core.covariance.linalg import unpack_symmetric
from tests.core.covariance.contract import StructureContract
from tests.core.steps import tensor


class TestFull(StructureContract):
    name = "full"
    # Upper triangles: 3 × 10, 1 × 6, 4 × 1.
    num_covariance_parameters: ClassVar = {(3, 4): 30, (1, 3): 6, (4, 1): 4}

    def test_second_moments_are_the_products_of_pairs_by_their_distance(self):
        x = torch.tensor([[1.0, -1.0], [2.0, 3.0], [5.0, 7.0]])
        out = torch.empty(6, 2)
        FullCovariance().write_second_moments(x, out)
        # 11, 22, 33, 12, 23, 31
        expected = [[1, 4, 25, 2, 10, 5], [1, 9, 49, -3, 21, -7]]
        np.testing.assert_array_equal(out.T, expected)

    def test_factor_of_a_matrix_inverted_by_hand(self):
        # Σ = [[4, 2], [2, 2]] has the inverse [[½, −½], [−½, 1]] = U Uᵀ with this U.
        factor, usable = FullCovariance().precisions_cholesky(
            torch.tensor([[[4.0, 2.0], [2.0, 2.0]]]), 1
        )
        assert usable.tolist() == [True]
        np.testing.assert_allclose(factor[0], [[0.5, -0.5], [0.0, 1.0]], rtol=1e-6)

    def test_off_diagonal_coefficients_stand_for_both_of_their_places(self):
        # −½ (½ (x₁ − 2)² − (x₁ − 2)(x₂ − 1) + (x₂ − 1)²), for the same matrix.
        factor, mean = torch.tensor([[[0.5, -0.5], [0.0, 1.0]]]), torch.tensor([[2.0, 1.0]])
        constant = torch.tensor([3.0])
        coefficients = FullCovariance().log_density_coefficients(constant, mean, factor)
        np.testing.assert_allclose(coefficients[0], [2.5, 0.5, 0.0, -0.25, -0.5, 0.5])

    def test_estimate_of_two_points(self):
        # (1, 1) and (3, 5): mean (2, 3), covariance [[1, 2], [2, 4]].
        covariance = FullCovariance().estimate(
            counts=torch.tensor([2.0]),
            deviations=torch.tensor([[2.0, 3.0]]),
            second=torch.tensor([[1.0 + 9.0, 1.0 + 25.0, 1.0 + 15.0]]),
            scatter=None,
        )
        np.testing.assert_allclose(covariance[0], [[1.0, 2.0], [2.0, 4.0]])

    def test_a_few_equal_rows_have_the_spread_of_scikit_learn_that_a_count_plus_10_eps_gives(self):
        shift = 10 * torch.finfo(torch.float64).eps
        rows = torch.tensor([[3e9, -2e9]], dtype=torch.float64)
        # Of one row, of two, and of as many as need nothing.
        expected = np.multiply.outer([shift**2, shift**2 / 4, 0.0], [[9e18, -6e18], [-6e18, 4e18]])
        raised = FullCovariance().at_least_rounding(
            torch.zeros(3, 2, 2).double(),
            rows.expand(3, 2),
            torch.zeros(3, 2).double(),
            torch.tensor([1.0, 2.0, 5.0]),
            torch.ones(1, 2),
        )
        np.testing.assert_allclose(raised, expected, rtol=1e-6)
        # x − x / (1 + 10 eps), which is rounded to a tenth of itself.
        alone = FullCovariance().single_row_covariances(rows, 1.0 + shift, None)
        np.testing.assert_allclose(alone, expected[:1], rtol=0.2)

    def test_samples_of_an_unused_component_do_not_matter(self):
        covariances = torch.eye(2).repeat(3, 1, 1)
        covariances[2] *= 4.0
        noise = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        result = FullCovariance().transform_noise(noise, torch.tensor([2, 0]), covariances)
        np.testing.assert_allclose(result, [[2.0, 4.0], [3.0, 4.0]])


@pytest.mark.parametrize("largest", [1.0, 1e4, 1e8])
def test_eigenvectors_of_a_scatter_do_not_mix_features_of_different_units(rng, largest):
    """A structure without a formula of its own takes rows from the eigenvectors."""
    structure = FullCovariance()
    x = tensor(rng.standard_normal((4, 50)))
    x[2] = 0.0
    units = tensor(np.array([1 / largest, 1.0, 1.0, largest])).unsqueeze(-1)
    scatter = (units * x) @ (units * x).T
    found = CovarianceStructure.second_moments_of_scatter(structure, scatter.unsqueeze(0))
    found = unpack_symmetric(found, 4) / (units * units.T)
    torch.testing.assert_close(found[0], x @ x.T, rtol=0, atol=1e-12)
