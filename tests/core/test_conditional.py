import pytest
import torch

from sklearn_torch_gmm.core.conditional import FEW_MATRICES, MOST_BY_ELEMENTS, invert_definite

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
