"""Densities, as functions of tensors and as a torch module, and samples."""

import numpy as np
import torch
from scipy import stats
from torch.distributions import MultivariateNormal

from tests.core import oracle
from tests.core.covariance.contract.builders import NUM_ROWS, ROUNDING, Builders, make_model
from tests.core.oracle import Mixture
from tests.core.steps import natural_parameters, tensor

STANDARD_ERRORS = 5.5
"""How far a sample moment may be off: once in 25 million by chance."""


class DensityContract(Builders):
    # -- densities --------------------------------------------------------------------------------

    def test_joint_log_densities_are_those_of_multivariate_normal(
        self, structure, mixture, parameters, rows
    ):
        joint = structure.joint_log_densities(
            tensor(rows).T,
            parameters.log_weights[0],
            parameters.means[0],
            parameters.precisions_cholesky[0],
        )
        components = MultivariateNormal(tensor(mixture.means), tensor(mixture.matrices))
        log_densities = components.log_prob(tensor(rows)[:, None]).T
        expected = tensor(mixture.weights).log()[:, None] + log_densities
        torch.testing.assert_close(joint, expected, **ROUNDING)

    def test_log_prob_is_that_of_scipy(self, model, mixture, rows):
        _, log_prob = model(tensor(rows))
        np.testing.assert_allclose(log_prob, oracle.log_densities(mixture, rows), **ROUNDING)

    def test_responsibilities_are_bayes_rule_and_sum_to_one(self, model, mixture, rows):
        log_responsibilities, _ = model(tensor(rows))
        expected = oracle.responsibilities(mixture, rows).T
        np.testing.assert_allclose(log_responsibilities.exp(), expected, **ROUNDING)
        sums = log_responsibilities.exp().sum(1)
        torch.testing.assert_close(sums, torch.ones_like(sums), **ROUNDING)

    def test_natural_parameters_expand_the_joint_log_density(
        self, structure, mixture, parameters, rows
    ):
        features = rows.shape[1]
        x = tensor(rows).T
        terms = torch.ones(1 + structure.num_moments(features), len(rows), dtype=x.dtype)
        terms[1 : features + 1] = x
        structure.write_second_moments(x, terms[features + 1 :])
        natural = natural_parameters(parameters, torch.zeros(features), structure)
        expected = oracle.joint_log_densities(mixture, rows)
        if structure.has_pooled_scatter:
            precision = np.linalg.inv(mixture.matrices[0])
            expected = expected + 0.5 * np.einsum("ni,ij,nj->n", rows, precision, rows)
        np.testing.assert_allclose(natural[0] @ terms, expected, **ROUNDING)

    def test_a_component_without_weight_has_no_density(self, rng):
        mixture, parameters = self.random_mixture(rng, 3, 2)
        model = make_model(self.name, parameters)
        weights = np.array([0.0, 0.25, 0.75])
        model.component_probs.copy_(tensor(weights))
        rows = oracle.draw_rows(rng, mixture, NUM_ROWS)
        log_responsibilities, log_prob = model(tensor(rows))
        others = Mixture(weights[1:], mixture.means[1:], mixture.matrices[1:])
        assert (log_responsibilities[:, 0] == -torch.inf).all()
        np.testing.assert_allclose(log_prob, oracle.log_densities(others, rows), **ROUNDING)

    def test_gradients_with_respect_to_the_data(self, model, rows):
        data = tensor(rows[:5]).requires_grad_()
        assert torch.autograd.gradcheck(model, (data,))
        model(data)[1].sum().backward()
        assert not any(buffer.requires_grad for buffer in model.buffers())

    # -- the module -------------------------------------------------------------------------------

    def test_model_gives_its_covariances_back(self, model, mixture, parameters):
        torch.testing.assert_close(model.covariances, parameters.covariances[0], **ROUNDING)

    def test_samples_have_the_moments_of_the_mixture(self, model, mixture, generator):
        num_rows = 20_000
        samples = model.sample(num_rows, generator=generator).numpy()
        mean = mixture.weights @ mixture.means
        deviations = mixture.means - mean
        between = np.einsum("k,ki,kj->ij", mixture.weights, deviations, deviations)
        covariance = np.einsum("k,kij->ij", mixture.weights, mixture.matrices) + between

        standard_error = np.sqrt(np.diag(covariance) / num_rows)
        assert (np.abs(samples.mean(0) - mean) < STANDARD_ERRORS * standard_error).all()

        centred = samples - mean
        products = centred[:, :, None] * centred[:, None, :]
        standard_errors = products.std(0) / np.sqrt(num_rows)
        assert (np.abs(products.mean(0) - covariance) < STANDARD_ERRORS * standard_errors).all()

    def test_margins_of_samples_have_the_distribution_of_the_mixture(
        self, model, mixture, rng, generator
    ):
        direction = rng.standard_normal(mixture.means.shape[1])
        centres = mixture.means @ direction
        widths = np.sqrt(np.einsum("i,kij,j->k", direction, mixture.matrices, direction))

        def distribution(values: np.ndarray) -> np.ndarray:
            return stats.norm.cdf(values[:, None], centres, widths) @ mixture.weights

        samples = model.sample(2000, generator=generator).numpy()
        assert stats.kstest(samples @ direction, distribution).pvalue > 1e-6

    def test_compiled_model_gives_what_the_model_gives(self, model, rows):
        # Tracing is what depends on our code; generating code from the trace takes seconds.
        torch.compiler.reset()
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(tensor(rows)), model(tensor(rows)), **ROUNDING)

    def test_exported_model_gives_what_the_model_gives_for_any_number_of_rows(self, model, rows):
        shapes = {"data": {0: torch.export.Dim("rows", min=2)}}
        exported = torch.export.export(model, (tensor(rows[:9]),), dynamic_shapes=shapes).module()
        torch.testing.assert_close(exported(tensor(rows)), model(tensor(rows)), **ROUNDING)
