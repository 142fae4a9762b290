from typing import ClassVar

import numpy as np
import torch

from sklearn_torch_gmm.core.covariance.tied import TiedCovariance
from sklearn_torch_gmm.core.m_step import m_step
from tests.core.covariance.contract import ROUNDING, StructureContract
from tests.core.steps import assert_same_mixtures, iterate, make_e_step, tensor


class TestTied(StructureContract):
    name = "tied"
    # One upper triangle, whatever K is.
    num_covariance_parameters: ClassVar = {(3, 4): 10, (1, 3): 6, (4, 1): 1}

    def test_scatter_of_an_earlier_iteration_is_used_again(self, structure, parameters, rows):
        data, centre = tensor(rows), tensor(rows.mean(0))
        first = make_e_step("fast", parameters, centre, structure)
        first.add(data)
        after_first = m_step(first.moments, centre, parameters.means, structure, 0.0).parameters

        second = make_e_step("fast", after_first, centre, structure, scatter=first.moments.scatter)
        second.add(data)
        after_second = m_step(second.moments, centre, after_first.means, structure, 0.0)
        expected, likelihood = iterate("fast", after_first, data, structure)
        assert_same_mixtures(after_second.parameters, expected.parameters, **ROUNDING)
        torch.testing.assert_close(second.log_likelihood(second.moments), likelihood, **ROUNDING)

    def test_scatter_is_the_sum_of_products_about_the_centre(self, structure, parameters, rows):
        centre = rows.mean(0) + 1.0
        step = make_e_step("fast", parameters, tensor(centre), structure)
        step.add(tensor(rows))
        expected = sum(np.outer(row - centre, row - centre) for row in rows)
        np.testing.assert_allclose(step.moments.scatter[0], expected, **ROUNDING)

    def test_estimate_of_two_components_of_two_points(self):
        # ±1 about −3 and ±2 about 3: the scatter about 0 is 16 + 4 + 1 + 25, between them 36.
        covariance = TiedCovariance().estimate(
            counts=torch.tensor([2.0, 2.0]),
            deviations=torch.tensor([[-3.0], [3.0]]),
            second=torch.empty(2, 0),
            scatter=torch.tensor([[16.0 + 4.0 + 1.0 + 25.0]]),
        )
        # Squares of 1, 1, 2 and 2, over four points.
        np.testing.assert_allclose(covariance, [[2.5]])

    def test_single_rows_keep_the_scatter_of_the_rows_that_nobody_holds(self, structure):
        # scikit-learn's formula: the products of all rows, less those of the means, over K.
        rows = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        others = torch.tensor([[3.0, 1.0], [2.0, 2.0]])
        scatter = rows.T @ rows + others.T @ others
        covariance = structure.single_row_covariances(rows, 1.0, scatter)
        np.testing.assert_allclose(covariance, others.T @ others / 2)
