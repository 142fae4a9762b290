import numpy as np
import pytest
import torch

from sklearn_torch_gmm.core.conditional import (
    FEW_MATRICES,
    MOST_BY_ELEMENTS,
    Conditionals,
    invert_definite,
)
from sklearn_torch_gmm.core.covariance import get_structure
from sklearn_torch_gmm.core.gap_inference import GapInference
from sklearn_torch_gmm.core.rounding import TOLERATED_ERROR
from tests.core.steps import tensor

NUMBERS = [FEW_MATRICES, FEW_MATRICES + 2]
"""Matrices that LAPACK inverts one by one, and those inverted together if they are small."""


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("size", [1, 2, 5, MOST_BY_ELEMENTS, MOST_BY_ELEMENTS + 1])
def test_matrices_are_inverted(generator, size, number):
    roots = torch.randn(2, number // 2, size, size + 3, generator=generator, dtype=torch.float64)
    matrices = roots @ roots.mT
    inverse, log_determinants = invert_definite(matrices.movedim(1, -1))
    # Condition numbers below 1e4.
    torch.testing.assert_close(inverse.movedim(-1, 1), matrices.inverse(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(log_determinants, matrices.logdet(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("size", [1, 2, MOST_BY_ELEMENTS + 1])
@pytest.mark.parametrize("pivot", [0.0, -1.0])
def test_a_matrix_that_is_not_definite_has_no_log_determinant(size, pivot, number):
    matrices = torch.eye(size, dtype=torch.float64).expand(number, -1, -1).clone()
    matrices[1, -1, -1] = pivot
    _, log_determinants = invert_definite(matrices.movedim(0, -1))
    assert (~log_determinants.isfinite()).nonzero().flatten().tolist() == [1]


def factors_of(name, condition, features=6):
    """Factors of a random covariance, and its first variance."""
    rng = np.random.default_rng(11)
    basis = np.linalg.qr(rng.standard_normal((features, features)))[0]
    roots = basis * np.geomspace(1.0, condition**-0.5, features)
    covariance = tensor(roots @ roots.T)
    own = covariance if name == "tied" else covariance.unsqueeze(0)
    factors, usable = get_structure(name).precisions_cholesky(own, 1)
    assert usable.all()
    return factors, covariance[0, 0]


@pytest.mark.parametrize("name", ["full", "tied"])
@pytest.mark.parametrize("condition", [1e2, 1e8, 1e10])
@pytest.mark.parametrize("deviations", [2.0, 10.0, 100.0])
def test_one_observed_value_of_an_ill_conditioned_row(name, condition, deviations):
    """Its density is that of one normal variable, whatever the rest of the covariance is."""
    factors, variance = factors_of(name, condition)
    means = torch.zeros(1, 6, dtype=torch.float64)
    inference = GapInference(torch.zeros(1).double(), means, factors, get_structure(name))
    row = torch.full((1, 6), torch.nan, dtype=torch.float64)
    row[0, 0] = deviations * variance.sqrt()
    expected = torch.distributions.Normal(0.0, variance.sqrt()).log_prob(row[:, 0])
    # The logarithms of determinants lose eps times the condition number.
    torch.testing.assert_close(
        inference.log_densities(row), expected, rtol=1e-14, atol=TOLERATED_ERROR[torch.float64]
    )


@pytest.mark.parametrize("name", ["full", "tied"])
def test_conditional_means_are_refined_only_if_ill_conditioned(name):
    means = torch.zeros(1, 6, dtype=torch.float64)

    def needs_it(condition, dtype=torch.float64):
        factors, _ = factors_of(name, condition)
        parts = (torch.zeros(1, dtype=dtype), means.to(dtype), factors.to(dtype))
        return Conditionals(*parts, get_structure(name))._is_ill_conditioned

    # The error grows with the third power of the condition: by a thousand from one to the next.
    assert [needs_it(condition) for condition in (1e2, 1e5, 1e8)] == [False, False, True]
    assert [needs_it(condition, torch.float32) for condition in (1.0, 1e4)] == [False, True]
