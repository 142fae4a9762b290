"""Sizes, covariances, precisions and their factors."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.rounding import are_reliable
from tests.core.covariance.contract.builders import ROUNDING, Builders
from tests.core.steps import natural_parameters, tensor

Method = Callable[[CovarianceStructure, MixtureParameters, Tensor], Tensor]

METHODS_WITH_LEADING_DIMENSIONS: dict[str, Method] = {
    "centred_second_moments": lambda s, p, x: s.centred_second_moments(
        x - p.means.unsqueeze(-1), (x[0] - p.means[..., :1]).abs()
    ),
    "common_log_likelihood": lambda s, p, x: (
        s.common_log_likelihood(p.precisions_cholesky, (x @ x.mT).expand_as(p.covariances))
        if s.has_pooled_scatter
        else p.weights
    ),
    "covariances": lambda s, p, _: s.covariances(p.precisions_cholesky),
    "log_density_coefficients": lambda s, p, _: s.log_density_coefficients(
        p.log_weights, p.means, p.precisions_cholesky
    ),
    "estimate": lambda s, p, x: s.estimate(
        p.weights,
        0.1 * p.means,
        p.weights.new_ones(*p.weights.shape, s.num_second_moments(p.means.shape[-1])),
        (x @ x.mT).expand_as(p.covariances) if s.has_pooled_scatter else None,
    ),
    "fill_components": lambda s, p, x: s.fill_components(
        p.covariances, p.means[..., 0] > 0, x.var(-1).expand_as(p.means)[..., :1, :]
    ),
    "joint_log_densities": lambda s, p, x: s.joint_log_densities(
        x, p.log_weights, p.means, p.precisions_cholesky
    ),
    "log_determinants": lambda s, p, _: s.log_determinants(
        p.precisions_cholesky, *p.means.shape[-2:]
    ),
    "matrices": lambda s, p, _: s.matrices(p.covariances, *p.means.shape[-2:]),
    "natural_parameters": lambda s, p, _: s.natural_parameters(
        p.log_weights, p.means, p.precisions_cholesky
    ),
    "precisions": lambda s, p, _: s.precisions(p.precisions_cholesky),
    "precisions_cholesky": lambda s, p, _: s.precisions_cholesky(p.covariances, p.means.shape[-2])[
        0
    ],
    "precisions_cholesky_from_precisions": lambda s, p, _: s.precisions_cholesky_from_precisions(
        p.covariances
    ),
    "regularize": lambda s, p, _: s.regularize(p.covariances.clone(), 0.5),
    "smallest_eigenvalues": lambda s, p, _: s.smallest_eigenvalues(
        p.covariances, p.means.shape[-2]
    ),
    "squared_distances": lambda s, p, x: s.squared_distances(x, p.means, p.precisions_cholesky),
    "unit_covariances": lambda s, p, _: s.unit_covariances(p.covariances),
    "usable": lambda s, p, _: s.precisions_cholesky(p.covariances, p.means.shape[-2])[1],
    "variances": lambda s, p, _: s.variances(p.covariances, *p.means.shape[-2:]),
}


def without_leading(parameters: MixtureParameters) -> MixtureParameters:
    return MixtureParameters(
        parameters.weights[0],
        parameters.means[0],
        parameters.covariances[0],
        parameters.precisions_cholesky[0],
    )


class AlgebraContract(Builders):
    # -- sizes ------------------------------------------------------------------------------------

    def test_covariance_shape_is_that_of_the_covariances(self, structure, parameters, sizes):
        assert structure.covariance_shape(*sizes) == tuple(parameters.covariances.shape[1:])

    def test_number_of_covariance_parameters(self, structure):
        assert self.num_covariance_parameters
        for sizes, expected in self.num_covariance_parameters.items():
            assert structure.num_covariance_parameters(*sizes) == expected

    def test_num_moments_is_the_length_of_the_natural_parameters(
        self, structure, parameters, sizes
    ):
        components, features = sizes
        natural = natural_parameters(parameters, torch.zeros(features), structure)
        assert natural.shape == (1, components, 1 + structure.num_moments(features))

    @pytest.mark.parametrize("method", METHODS_WITH_LEADING_DIMENSIONS)
    def test_leading_dimension_stacks_the_results(self, structure, three, rows, method):
        call = METHODS_WITH_LEADING_DIMENSIONS[method]
        x = tensor(rows).T
        alone = torch.stack([call(structure, without_leading(p), x) for p in three])
        stacked = call(structure, MixtureParameters.stack(three), x)
        torch.testing.assert_close(stacked, alone, **ROUNDING)

    def test_second_moments_have_their_shape_on_other_devices(self, structure, sizes):
        features = sizes[1]
        x = torch.empty(features, 10, device="meta")
        out = torch.empty(structure.num_second_moments(features), 10, device="meta")
        structure.write_second_moments(x, out)

    def test_second_moments_follow_from_sums_of_products(self, structure, rows, sizes):
        x = tensor(rows).T
        scatter = (x @ x.T).expand(3, sizes[0], -1, -1)
        ones = torch.ones(3, sizes[0], x.shape[1], dtype=x.dtype)
        expected = structure.centred_second_moments(x.expand(3, sizes[0], -1, -1), ones)
        actual = structure.second_moments_of_scatter(scatter)
        torch.testing.assert_close(actual, expected, **ROUNDING)

    def test_lanes_of_rows_have_the_moments_of_each(self, structure, rows):
        x = tensor(rows).T
        features, num_rows = x.shape
        length = 1 + structure.num_moments(features)

        def complete(moments):
            moments.fill_(torch.nan)
            moments[..., 1 : features + 1, :] = x[:, : moments.shape[-1]]
            structure.complete_moments(moments, features)
            return moments

        alone = complete(x.new_empty(length, num_rows))
        lanes = complete(x.new_empty(2, length, num_rows))
        assert torch.equal(lanes, alone.expand_as(lanes))

    # -- covariances and precisions ---------------------------------------------------------------

    def test_matrices_are_the_dense_equal(self, structure, mixture, parameters, sizes):
        matrices = structure.matrices(parameters.covariances, *sizes)
        np.testing.assert_allclose(matrices[0], mixture.matrices, **ROUNDING)

    def test_variances_are_the_diagonals(self, structure, mixture, parameters, sizes):
        variances = structure.variances(parameters.covariances, *sizes)
        expected = np.diagonal(mixture.matrices, axis1=1, axis2=2)
        assert variances.shape == (1, *sizes)
        np.testing.assert_allclose(variances[0], expected, **ROUNDING)

    def test_smallest_eigenvalues(self, structure, mixture, parameters, sizes):
        smallest = structure.smallest_eigenvalues(parameters.covariances, sizes[0])
        expected = np.linalg.eigvalsh(mixture.matrices)[:, 0]
        assert smallest.shape == (1, sizes[0])
        np.testing.assert_allclose(smallest[0], expected, **ROUNDING)

    def test_covariance_times_precision_is_the_identity(self, structure, mixture, parameters):
        components, features = mixture.means.shape
        precisions = structure.precisions(parameters.precisions_cholesky)[0].numpy()
        products = mixture.matrices @ self.dense(precisions, components, features)
        identity = np.broadcast_to(np.eye(features), products.shape)
        np.testing.assert_allclose(products, identity, **ROUNDING)

    def test_factors_are_upper_triangular_roots_of_the_precisions(self, mixture, parameters):
        components, features = mixture.means.shape
        factors = self.dense(parameters.precisions_cholesky[0].numpy(), components, features)
        np.testing.assert_array_equal(factors, np.triu(factors))
        products = factors @ factors.transpose(0, 2, 1)
        np.testing.assert_allclose(products, np.linalg.inv(mixture.matrices), **ROUNDING)

    def test_covariances_come_back_from_the_factors(self, structure, parameters):
        covariances = structure.covariances(parameters.precisions_cholesky)
        torch.testing.assert_close(covariances, parameters.covariances, **ROUNDING)

    def test_factors_come_back_from_the_precisions(self, structure, parameters):
        precisions = structure.precisions(parameters.precisions_cholesky)
        factors = structure.precisions_cholesky_from_precisions(precisions)
        torch.testing.assert_close(factors, parameters.precisions_cholesky, **ROUNDING)

    def test_log_cholesky_coordinates_and_back(self, structure, parameters, rng):
        factors = parameters.precisions_cholesky
        scale = tensor(rng.uniform(0.1, 10.0, size=(1, parameters.means.shape[-1])))
        coordinates = structure.log_cholesky(factors, scale)
        assert coordinates.shape == factors.shape
        back = structure.from_log_cholesky(coordinates, scale)
        torch.testing.assert_close(back, factors, **ROUNDING)

    def test_any_log_cholesky_coordinates_are_usable(self, structure, parameters, rng, sizes):
        factors, features = parameters.precisions_cholesky, sizes[1]
        coordinates = tensor(rng.normal(size=factors.shape))
        scale = tensor(rng.uniform(0.1, 10.0, size=(1, features)))
        covariances = structure.covariances(structure.from_log_cholesky(coordinates, scale))
        assert structure.precisions_cholesky(covariances, sizes[0])[1].all()

    def test_units_of_the_data_shift_log_cholesky_coordinates(self, structure, parameters):
        factors = parameters.precisions_cholesky
        scale = torch.ones(1, parameters.means.shape[-1], dtype=torch.float64)
        ours = structure.log_cholesky(factors, scale)
        others = structure.log_cholesky(factors / 8.0, 8.0 * scale)
        is_diagonal = structure.unit_covariances(factors)
        torch.testing.assert_close(others, ours - np.log(8.0) * is_diagonal, **ROUNDING)

    def test_log_determinants_are_half_of_the_precisions(
        self, structure, mixture, parameters, sizes
    ):
        actual = structure.log_determinants(parameters.precisions_cholesky, *sizes)
        expected = -0.5 * np.linalg.slogdet(mixture.matrices)[1]
        assert actual.shape == (1, sizes[0])
        np.testing.assert_allclose(actual[0], expected, **ROUNDING)

    def test_coefficients_are_those_of_each_component(self, structure, parameters, sizes):
        constants, means = parameters.log_weights, parameters.means
        found = structure.log_density_coefficients(constants, means, parameters.precisions_cholesky)
        assert found.shape == (1, sizes[0], 1 + structure.num_moments(sizes[1]))
        x = torch.linspace(0.5, 1.5, sizes[1], dtype=torch.float64).unsqueeze(-1)
        moments = x.new_empty(found.shape[-1], 1)
        moments[1 : sizes[1] + 1] = x
        structure.complete_moments(moments, sizes[1])
        factors = parameters.precisions_cholesky
        distances = structure.squared_distances(x, parameters.means, factors)
        common = structure.common_log_densities(x, factors)
        expected = constants.unsqueeze(-1) - 0.5 * distances - common
        torch.testing.assert_close(found @ moments, expected, **ROUNDING)

    def test_facts_agree_with_the_shapes(self, structure, sizes):
        components, features = sizes
        one, several = (structure.covariance_shape(k, features) for k in (1, components + 1))
        assert structure.is_shared == (one == several)
        if structure.has_pooled_scatter:
            assert structure.is_shared
            assert several == (features, features)
            assert structure.num_second_moments(features) == 0
        if not structure.has_independent_features:
            assert several[-2:] == (features, features)

    def test_unit_covariances_are_identity_matrices(self, structure, parameters, sizes):
        unit = structure.unit_covariances(parameters.covariances)
        assert unit.shape == parameters.covariances.shape
        matrices = structure.matrices(unit, *sizes)[0]
        np.testing.assert_array_equal(matrices, np.stack([np.eye(sizes[1])] * sizes[0]))
        # Torch refuses this where members share memory.
        unit.add_(1.0)

    def test_regularization_is_added_once_to_each_variance(
        self, structure, mixture, parameters, sizes
    ):
        regularized = structure.regularize(parameters.covariances.clone(), 0.25)
        expected = mixture.matrices + 0.25 * np.eye(sizes[1])
        np.testing.assert_allclose(structure.matrices(regularized, *sizes)[0], expected, **ROUNDING)

    @pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
    def test_a_covariance_that_is_not_positive_definite_is_not_usable(
        self, structure, parameters, sizes, value
    ):
        covariances = parameters.covariances.clone()
        covariances[0, 0] = value
        factors, usable = structure.precisions_cholesky(covariances, sizes[0])
        spoilt_ones = replace(parameters, covariances=covariances, precisions_cholesky=factors)
        # An infinite variance of a single feature has a factor: zero.
        usable = usable & are_reliable(spoilt_ones, structure)
        spoilt = torch.full((1, sizes[0]), structure.is_shared)
        spoilt[0, 0] = True
        torch.testing.assert_close(usable, ~spoilt)

    def test_chosen_components_are_filled_with_independent_variances(
        self, structure, mixture, parameters, rng, sizes
    ):
        components, features = sizes
        chosen = np.arange(components) % 2 == 0
        variances = rng.uniform(1.0, 2.0, size=features)
        filled = structure.fill_components(
            parameters.covariances, tensor(chosen)[None], tensor(variances)[None, None]
        )
        # The member of the family that is nearest to independent features with these variances.
        diagonal = np.stack([np.diag(variances)] * components)
        nearest = self.dense(
            self.project(diagonal, np.full(components, 1 / components)), components, features
        )
        expected = np.where(chosen[:, None, None], nearest, mixture.matrices)
        if structure.is_shared:
            expected = mixture.matrices
        np.testing.assert_allclose(structure.matrices(filled, *sizes)[0], expected, **ROUNDING)
