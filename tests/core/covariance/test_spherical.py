from typing import ClassVar

import numpy as np
import torch

from sklearn_torch_gmm.core.covariance.spherical import SphericalCovariance
from tests.core.covariance.contract import StructureContract


class TestSpherical(StructureContract):
    name = "spherical"
    num_covariance_parameters: ClassVar = {(3, 4): 3, (1, 3): 1, (4, 1): 4}

    def test_second_moment_is_the_squared_length(self):
        x = torch.tensor([[3.0, -1.0], [4.0, 2.0]])
        out = torch.empty(1, 2)
        SphericalCovariance().write_second_moments(x, out)
        np.testing.assert_array_equal(out, [[25.0, 5.0]])

    def test_estimate_of_two_points(self):
        # (1, 1) and (3, 5): mean (2, 3), variances 1 and 4, which are 2.5 on average.
        variance = SphericalCovariance().estimate(
            counts=torch.tensor([2.0]),
            deviations=torch.tensor([[2.0, 3.0]]),
            second=torch.tensor([[2.0 + 34.0]]),
            scatter=None,
        )
        np.testing.assert_allclose(variance, [2.5])

    def test_variances_are_filled_with_their_mean(self):
        filled = SphericalCovariance().fill_components(
            torch.tensor([[1.0, 2.0]]),
            torch.tensor([[True, False]]),
            torch.tensor([[[3.0, 5.0]]]),
        )
        assert filled.tolist() == [[4.0, 2.0]]
