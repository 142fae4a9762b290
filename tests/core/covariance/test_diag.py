from typing import ClassVar

import numpy as np
import torch

from sklearn_torch_gmm.core.covariance.diag import DiagonalCovariance
from tests.core.covariance.contract import StructureContract


class TestDiagonal(StructureContract):
    name = "diag"
    num_covariance_parameters: ClassVar = {(3, 4): 12, (1, 3): 3, (4, 1): 4}

    def test_second_moments_are_the_squares(self):
        x = torch.tensor([[1.0, -1.0], [2.0, 3.0]])
        out = torch.empty(2, 2)
        DiagonalCovariance().write_second_moments(x, out)
        np.testing.assert_array_equal(out, [[1.0, 1.0], [4.0, 9.0]])

    def test_estimate_of_two_points(self):
        # (1, 1) and (3, 5): mean (2, 3), variances 1 and 4.
        variances = DiagonalCovariance().estimate(
            counts=torch.tensor([2.0]),
            deviations=torch.tensor([[2.0, 3.0]]),
            second=torch.tensor([[10.0, 26.0]]),
            scatter=None,
        )
        np.testing.assert_allclose(variances, [[1.0, 4.0]])

    def test_one_vanishing_variance_makes_its_component_unusable_and_no_other(self):
        variances = torch.tensor([[[1.0, 0.0], [1.0, 2.0]]])
        _, usable = DiagonalCovariance().precisions_cholesky(variances, 2)
        assert usable.tolist() == [[False, True]]
