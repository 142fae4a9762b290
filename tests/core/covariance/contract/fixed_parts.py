"""The M-step beside parts that stay as they are."""

from itertools import chain, combinations

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from sklearn_torch_gmm.core.fixed import PARTS
from tests.core.covariance.contract.builders import Builders
from tests.core.oracle import (
    Mixture,
    beside_fixed,
    draw_rows,
    joint_log_densities,
    responsibilities,
    stays,
    weighted_sums,
)
from tests.core.steps import (
    E_STEPS,
    as_parameters,
    assert_same_mixtures,
    iterate_beside,
    mixture_of,
)

SOME = list(chain.from_iterable(combinations(PARTS, n) for n in (1, 2, 3)))
SINGLE = [
    {"weights": [1]},
    {"means": [0, 2]},
    {"covariances": [2]},
    {"weights": [0, 1], "means": [1], "covariances": [0, 1]},
]
COMPONENTS, FEATURES = 3, 3

each_choice = pytest.mark.parametrize("fixed", SOME, ids="+".join)
each_kind = pytest.mark.parametrize("kind", E_STEPS)


def expected_log_likelihood(mixture: Mixture, rows: np.ndarray, shares: np.ndarray) -> float:
    """Of rows and components together, under shares [K, N]: what an M-step makes largest."""
    return float((shares * joint_log_densities(mixture, rows)).sum())


class FixedPartsContract(Builders):
    def overlapping(self, rng: np.random.Generator) -> Mixture:
        return mixture_of(rng, self.name, COMPONENTS, FEATURES)

    def turned_and_stretched(
        self, rng: np.random.Generator, matrices: np.ndarray, size: float
    ) -> np.ndarray:
        """Covariance matrices a little away, in the same structure."""
        noise = size * rng.standard_normal(matrices.shape)
        near = [expm(a) @ m @ expm(a).T for a, m in zip(noise, matrices, strict=True)]
        covariances = self.project(np.stack(near), np.full(COMPONENTS, 1 / COMPONENTS))
        return self.dense(covariances, COMPONENTS, FEATURES)

    def iterate_as_by_loops(self, rng, fixed, kind):
        """Two mixtures at once, weighted rows, and means that are not those of the rows."""
        mixtures = [self.overlapping(rng) for _ in range(2)]
        rows = draw_rows(rng, mixtures[0], 60)
        weights = rng.uniform(size=60)
        result, before = iterate_beside(fixed, kind, self.name, mixtures, rows, weights, 0.05)
        assert result.usable.all()
        expected = [
            beside_fixed(
                self.name,
                mixture,
                weighted_sums(rows, responsibilities(mixture, rows), weights),
                fixed,
                0.05,
            )
            for mixture in mixtures
        ]
        assert_same_mixtures(
            result.parameters, as_parameters(self.name, *expected), rtol=1e-10, atol=1e-10
        )
        return result, before

    @each_choice
    @each_kind
    def test_m_step_beside_fixed_parts_by_loops(self, rng, fixed, kind):
        result, before = self.iterate_as_by_loops(rng, fixed, kind)
        for part in fixed:
            assert torch.equal(getattr(result.parameters, part), getattr(before, part))

    @pytest.mark.parametrize("fixed", SOME[:-1], ids="+".join)
    def test_nothing_near_is_likelier_beside_fixed_parts(self, structure, rng, fixed):
        """What is free maximizes the expected log-likelihood of rows and components together."""
        before = self.overlapping(rng)
        rows = draw_rows(rng, self.overlapping(rng), 40)
        shares = responsibilities(before, rows)
        result, _ = iterate_beside(fixed, "fast", self.name, [before], rows)
        found = result.parameters
        matrices = structure.matrices(found.covariances, COMPONENTS, FEATURES)[0]
        best = Mixture(found.weights[0].numpy(), found.means[0].numpy(), matrices.numpy())
        largest = expected_log_likelihood(best, rows, shares)
        assert largest > expected_log_likelihood(before, rows, shares)
        for size in (1e-3, 1e-2, 1e-1):
            for _ in range(10):
                weights = best.weights * np.exp(size * rng.standard_normal(COMPONENTS))
                means = best.means + size * rng.standard_normal(best.means.shape)
                other = {
                    "weights": {"weights": weights / weights.sum()},
                    "means": {"means": means},
                    "covariances": {
                        "matrices": self.turned_and_stretched(rng, best.matrices, size)
                    },
                }
                for part in set(PARTS) - set(fixed):
                    near = best._replace(**other[part])
                    assert expected_log_likelihood(near, rows, shares) < largest

    def skip_unless_possible(self, structure, fixed):
        if structure.is_shared and "covariances" in fixed:
            pytest.skip("all components share one covariance")

    @pytest.mark.parametrize("fixed", SINGLE, ids=str)
    @each_kind
    def test_m_step_beside_fixed_components_by_loops(self, structure, rng, fixed, kind):
        self.skip_unless_possible(structure, fixed)
        result, before = self.iterate_as_by_loops(rng, fixed, kind)
        for part, chosen in fixed.items():
            found, given = getattr(result.parameters, part), getattr(before, part)
            assert torch.equal(found[:, chosen], given[:, chosen])

    @pytest.mark.parametrize("fixed", SINGLE, ids=str)
    def test_nothing_near_is_likelier_beside_fixed_components(self, structure, rng, fixed):
        self.skip_unless_possible(structure, fixed)
        before = self.overlapping(rng)
        rows = draw_rows(rng, self.overlapping(rng), 40)
        shares = responsibilities(before, rows)
        result, _ = iterate_beside(fixed, "fast", self.name, [before], rows)
        found = result.parameters
        matrices = structure.matrices(found.covariances, COMPONENTS, FEATURES)[0]
        best = Mixture(found.weights[0].numpy(), found.means[0].numpy(), matrices.numpy())
        largest = expected_log_likelihood(best, rows, shares)
        assert largest > expected_log_likelihood(before, rows, shares)
        free = {part: ~stays(fixed, part, COMPONENTS) for part in PARTS}
        for size in (1e-3, 1e-2, 1e-1):
            for _ in range(10):
                weights = best.weights * np.exp(
                    size * free["weights"] * rng.standard_normal(COMPONENTS)
                )
                rest = best.weights[free["weights"]].sum()
                weights[free["weights"]] *= rest / weights[free["weights"]].sum()
                noise = size * rng.standard_normal(best.means.shape)
                turned = self.turned_and_stretched(rng, best.matrices, size)
                near = Mixture(
                    weights,
                    best.means + free["means"][:, None] * noise,
                    np.where(free["covariances"][:, None, None], turned, best.matrices),
                )
                assert expected_log_likelihood(near, rows, shares) < largest

    @each_choice
    @each_kind
    def test_a_component_without_rows_beside_fixed_parts(self, structure, rng, fixed, kind):
        """It is filled with the variance that the others found, unless covariances are fixed."""
        mixture = self.overlapping(rng)
        # So far that the square of the distance overflows, where no distance is needed.
        offset = np.array([[0.0], [1e200], [0.0]])
        mixture = mixture._replace(means=mixture.means + offset)
        kept = Mixture(*(part[::2] for part in mixture))
        rows = draw_rows(rng, kept._replace(weights=kept.weights / kept.weights.sum()), 60)
        result, before = iterate_beside(fixed, kind, self.name, [mixture], rows)
        assert result.empty.tolist() == [[False, True, False]]
        assert result.usable.all()
        assert torch.equal(result.parameters.means[0, 1], before.means[0, 1])
        for part in fixed:
            assert torch.equal(getattr(result.parameters, part), getattr(before, part))
        if "weights" not in fixed:
            assert result.parameters.weights[0, 1] == 0.0
        if "covariances" in fixed:
            return
        # Of the components that have rows, where nothing is fixed.
        alone = Mixture(kept.weights / kept.weights.sum(), kept.means, kept.matrices)
        sums = weighted_sums(rows, responsibilities(alone, rows))
        free = beside_fixed(self.name, alone, sums, ())
        spread = np.diagonal(free.matrices, axis1=1, axis2=2) + (free.means - rows.mean(0)) ** 2
        independent = np.diag(free.weights @ spread)
        nearest = self.dense(
            self.project(np.stack([independent] * 3), np.full(3, 1 / 3)), COMPONENTS, FEATURES
        )
        others = beside_fixed(self.name, alone, sums, fixed).matrices
        expected = others[0] if structure.is_shared else nearest[1]
        matrices = structure.matrices(result.parameters.covariances, COMPONENTS, FEATURES)[0]
        np.testing.assert_allclose(matrices[1], expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(matrices[::2], others, rtol=1e-9, atol=1e-9)

    def test_fixed_means_far_from_the_origin(self, rng):
        before = self.overlapping(rng)
        before = before._replace(means=before.means + 1e6)
        rows = draw_rows(rng, before, 60)
        sums = weighted_sums(rows, responsibilities(before, rows))
        expected = beside_fixed(self.name, before, sums, ("means",))
        result, _ = iterate_beside(("means",), "exact", self.name, [before], rows)
        # Numbers of size 1e6 are rounded to 1e-10.
        assert_same_mixtures(
            result.parameters, as_parameters(self.name, expected), rtol=1e-8, atol=1e-8
        )
