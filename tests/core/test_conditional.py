import pytest
import torch

from sklearn_torch_gmm.core.conditional import MOST_BY_ELEMENTS, invert_definite


@pytest.mark.parametrize("size", [1, 2, 5, MOST_BY_ELEMENTS, MOST_BY_ELEMENTS + 1])
def test_matrices_are_inverted(generator, size):
    roots = torch.randn(2, 7, size, size + 3, generator=generator, dtype=torch.float64)
    matrices = roots @ roots.mT
    inverse, log_determinants = invert_definite(matrices.movedim(1, -1))
    # Condition numbers below 1e4.
    torch.testing.assert_close(inverse.movedim(-1, 1), matrices.inverse(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(log_determinants, matrices.logdet(), rtol=1e-12, atol=1e-12)
