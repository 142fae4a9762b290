"""Expectation and maximization."""

import numpy as np
import pytest
import torch

from sklearn_torch_gmm.core.fast_step import FastPass
from sklearn_torch_gmm.core.gap_pass import GapPass
from sklearn_torch_gmm.core.m_step import m_step
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.splits import Splits
from tests.core import gap_oracle, oracle
from tests.core.covariance.contract.builders import NUM_ROWS, ROUNDING, Builders
from tests.core.oracle import Mixture
from tests.core.steps import (
    E_STEPS,
    assert_same_mixtures,
    iterate,
    make_e_step,
    make_parameters,
    tensor,
)

SMALLEST_CHUNK = 1
"""Bytes; a workspace then works on its smallest chunk, of 64 rows."""


class IterationContract(Builders):
    def expected_parameters(
        self, mixture: Mixture, rows: np.ndarray, sample_weight: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        sums = oracle.weighted_sums(rows, oracle.responsibilities(mixture, rows), sample_weight)
        return sums.weights, sums.means, self.project(sums.within, sums.weights)

    @pytest.mark.parametrize("kind", E_STEPS)
    @pytest.mark.parametrize("is_weighted", [False, True], ids=["", "weighted"])
    def test_iteration_is_the_weighted_sums(
        self, structure, mixture, parameters, rows, sample_weight, kind, is_weighted
    ):
        weight = sample_weight if is_weighted else None
        result, log_likelihood = iterate(
            kind,
            parameters,
            tensor(rows),
            structure,
            sample_weight=None if weight is None else tensor(weight),
        )
        weights, means, covariances = self.expected_parameters(mixture, rows, weight)
        np.testing.assert_allclose(result.parameters.weights[0], weights, **ROUNDING)
        np.testing.assert_allclose(result.parameters.means[0], means, **ROUNDING)
        np.testing.assert_allclose(result.parameters.covariances[0], covariances, **ROUNDING)
        expected = np.average(oracle.log_densities(mixture, rows), weights=weight)
        total = NUM_ROWS if weight is None else weight.sum()
        np.testing.assert_allclose(log_likelihood / total, [expected], **ROUNDING)
        assert result.usable.all()
        assert not result.empty.any()

    @pytest.mark.parametrize("kind", E_STEPS)
    def test_iteration_with_gaps_is_brute_force(
        self, rng, structure, mixture, parameters, rows, kind
    ):
        rows = gap_oracle.with_gaps(rng, rows)
        step = make_e_step(kind, parameters, tensor(np.nanmean(rows, axis=0)), structure)
        one = FastPass([step]) if kind == "fast" else step
        GapPass([step], [one], Splits()).add(tensor(rows))
        found = m_step(step.moments, step.centre, parameters.means, structure, 0.0).parameters
        expected, bound = gap_oracle.iterate(self.name, mixture, rows)
        matrices = structure.matrices(found.covariances, *parameters.means.shape[1:])
        np.testing.assert_allclose(found.weights[0], expected.weights, **ROUNDING)
        np.testing.assert_allclose(found.means[0], expected.means, **ROUNDING)
        np.testing.assert_allclose(matrices[0], expected.matrices, **ROUNDING)
        likelihood = step.log_likelihood(step.moments) / NUM_ROWS
        np.testing.assert_allclose(likelihood, [bound], **ROUNDING)

    def test_exact_and_fast_iterations_agree(self, structure, parameters, rows):
        fast, fast_likelihood = iterate("fast", parameters, tensor(rows), structure)
        exact, exact_likelihood = iterate("exact", parameters, tensor(rows), structure)
        assert_same_mixtures(fast.parameters, exact.parameters, **ROUNDING)
        torch.testing.assert_close(fast_likelihood, exact_likelihood, **ROUNDING)

    @pytest.mark.parametrize("kind", E_STEPS)
    def test_regularization_is_added_after_the_estimate(self, structure, parameters, rows, kind):
        plain, _ = iterate(kind, parameters, tensor(rows), structure)
        regularized, _ = iterate(kind, parameters, tensor(rows), structure, regularization=0.5)
        sizes = parameters.means.shape[1:]
        added = structure.matrices(regularized.parameters.covariances, *sizes) - structure.matrices(
            plain.parameters.covariances, *sizes
        )
        expected = 0.5 * torch.eye(sizes[1], dtype=added.dtype).expand_as(added)
        torch.testing.assert_close(added, expected, **ROUNDING)

    @pytest.mark.parametrize("kind", E_STEPS)
    @pytest.mark.parametrize("splits", [[], [1], [7, 8, 100], [64, 128]], ids=str)
    def test_moments_add_up_over_unequal_chunks(
        self, structure, parameters, rows, sample_weight, kind, splits
    ):
        arguments = {"sample_weight": tensor(sample_weight)}
        whole, likelihood = iterate(kind, parameters, tensor(rows), structure, **arguments)
        parts, parts_likelihood = iterate(
            kind,
            parameters,
            tensor(rows),
            structure,
            splits=splits,
            chunk_bytes=SMALLEST_CHUNK,
            **arguments,
        )
        assert_same_mixtures(parts.parameters, whole.parameters, **ROUNDING)
        torch.testing.assert_close(parts_likelihood, likelihood, **ROUNDING)

    @pytest.mark.parametrize("kind", E_STEPS)
    def test_moments_of_parts_add_up_to_those_of_the_whole(self, structure, parameters, rows, kind):
        centre = tensor(rows.mean(0))
        steps = [make_e_step(kind, parameters, centre, structure) for _ in range(3)]
        for step, part in zip(steps, (slice(None), slice(10), slice(10, None)), strict=True):
            step.add(tensor(rows[part]))
        whole, first, second = (step.moments for step in steps)
        packed = first.pack(with_scatter=True) + second.pack(with_scatter=True)
        total = first.unpack(packed)
        torch.testing.assert_close(total.sums, whole.sums, **ROUNDING)
        torch.testing.assert_close(total.log_likelihood, whole.log_likelihood, **ROUNDING)
        torch.testing.assert_close(total.scatter, whole.scatter, **ROUNDING)

    @pytest.mark.parametrize("kind", E_STEPS)
    def test_integer_weights_repeat_rows_and_zeros_remove_them(
        self, structure, parameters, rows, sample_weight, kind
    ):
        assert (sample_weight == 0).any()
        weighted, likelihood = iterate(
            kind, parameters, tensor(rows), structure, sample_weight=tensor(sample_weight)
        )
        repeated, repeated_likelihood = iterate(
            kind, parameters, tensor(np.repeat(rows, sample_weight, axis=0)), structure
        )
        assert_same_mixtures(weighted.parameters, repeated.parameters, **ROUNDING)
        torch.testing.assert_close(likelihood, repeated_likelihood, **ROUNDING)

    @pytest.mark.parametrize("kind", E_STEPS)
    def test_stacked_restarts_give_what_each_gives_alone(self, structure, three, rows, kind):
        stacked, likelihoods = iterate(
            kind, MixtureParameters.stack(three), tensor(rows), structure
        )
        alone = [iterate(kind, start, tensor(rows), structure) for start in three]
        expected = MixtureParameters.stack([result.parameters for result, _ in alone])
        assert_same_mixtures(stacked.parameters, expected, **ROUNDING)
        torch.testing.assert_close(likelihoods, torch.cat([one for _, one in alone]), **ROUNDING)

    @pytest.mark.parametrize("kind", E_STEPS)
    def test_the_centre_does_not_matter(self, structure, parameters, rows, kind):
        there, _ = iterate(kind, parameters, tensor(rows), structure)
        elsewhere, _ = iterate(
            kind, parameters, tensor(rows), structure, centre=tensor(rows.mean(0) + 3.0)
        )
        assert_same_mixtures(elsewhere.parameters, there.parameters, **ROUNDING)

    @pytest.mark.parametrize("kind", E_STEPS)
    def test_the_order_of_rows_does_not_matter(self, structure, parameters, rows, rng, kind):
        result, _ = iterate(kind, parameters, tensor(rows), structure)
        shuffled, _ = iterate(kind, parameters, tensor(rng.permutation(rows)), structure)
        assert_same_mixtures(shuffled.parameters, result.parameters, **ROUNDING)

    @pytest.mark.parametrize("kind", E_STEPS)
    def test_shifting_and_scaling_the_data_moves_the_parameters_and_nothing_else(
        self, structure, parameters, rows, kind
    ):
        result, likelihood = iterate(kind, parameters, tensor(rows), structure)
        moved_start = make_parameters(
            structure, parameters.weights, 8 * parameters.means + 5, 64 * parameters.covariances
        )
        moved, moved_likelihood = iterate(kind, moved_start, tensor(8 * rows + 5), structure)
        expected = make_parameters(
            structure,
            result.parameters.weights,
            8 * result.parameters.means + 5,
            64 * result.parameters.covariances,
        )
        assert_same_mixtures(moved.parameters, expected, **ROUNDING)
        # A density of D features that are 8 times as wide is smaller by 8 to the power of D.
        expected_likelihood = likelihood - rows.size * np.log(8)
        torch.testing.assert_close(moved_likelihood, expected_likelihood, **ROUNDING)

    @pytest.mark.parametrize("kind", E_STEPS)
    @pytest.mark.parametrize("rows_dtype", [torch.float32, torch.float64], ids=str)
    @pytest.mark.parametrize("arithmetic", [torch.float32, torch.float64], ids=str)
    def test_rows_and_weights_of_any_type_are_worked_on_in_the_type_of_the_parameters(
        self, structure, parameters, rows, sample_weight, kind, rows_dtype, arithmetic
    ):
        single = tensor(rows).float()
        expected, _ = iterate(
            kind, parameters, single.double(), structure, sample_weight=tensor(sample_weight)
        )
        actual, _ = iterate(
            kind,
            parameters.to(dtype=arithmetic),
            single.to(rows_dtype),
            structure,
            sample_weight=tensor(sample_weight.astype(np.float64)),
        )
        assert actual.parameters.means.dtype == arithmetic
        # float32 (1e-7), condition numbers up to a hundred, covariances as differences of squares.
        tolerance = ROUNDING if arithmetic == torch.float64 else {"rtol": 1e-3, "atol": 1e-3}
        assert_same_mixtures(
            actual.parameters.to(dtype=torch.float64), expected.parameters, **tolerance
        )

    def test_single_rows_have_no_spread(self, structure, rng, sizes):
        components, features = sizes
        rows = rng.standard_normal((components, features))
        covariances = structure.single_row_covariances(tensor(rows), 1.0, tensor(rows.T @ rows))
        assert tuple(covariances.shape) == structure.covariance_shape(*sizes)
        # Zero to the rounding of the squares of rows of size one.
        np.testing.assert_allclose(covariances, np.zeros(covariances.shape), atol=1e-14)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    @pytest.mark.parametrize("kind", E_STEPS)
    def test_iteration_on_a_gpu_is_that_on_the_cpu(self, structure, parameters, rows, kind):
        expected, likelihood = iterate(kind, parameters, tensor(rows), structure)
        actual, gpu_likelihood = iterate(
            kind, parameters.to("cuda"), tensor(rows).cuda(), structure
        )
        assert_same_mixtures(actual.parameters.to("cpu"), expected.parameters, **ROUNDING)
        torch.testing.assert_close(gpu_likelihood.cpu(), likelihood, **ROUNDING)
