"""Which Cholesky factors are more than rounding error."""

import mpmath
import numpy as np
import pytest
import torch

from sklearn_torch_gmm.core.covariance import get_structure
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.rounding import are_reliable
from tests.core.steps import tensor

FULL = get_structure("full")


def factor_of(matrices):
    """Inverse factors of ``matrices [K, D, D]``, and which of them can be relied on."""
    factors, exist = FULL.precisions_cholesky(matrices, len(matrices))
    weights, means = matrices.new_ones(1, len(matrices)), matrices.new_zeros(1, *matrices.shape[:2])
    parameters = MixtureParameters(weights, means, matrices[None], factors[None])
    return factors, exist & are_reliable(parameters, FULL)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_factor_that_exists_by_rounding_alone_is_not_reliable(dtype):
    """The second of two equal features has a variance of its own that is rounding, or is not."""
    epsilon = torch.finfo(dtype).eps
    matrices = torch.tensor(
        [[[1.0, 1.0], [1.0, 1.0 + 2 * epsilon]], [[1.0, 1.0], [1.0, 1.0 + 64 * epsilon]]],
        dtype=dtype,
    )
    # Whatever the features are measured in.
    scales = torch.tensor([1.0, 2.0**20], dtype=dtype)
    scaled = scales.unsqueeze(-1) * matrices * scales
    assert factor_of(matrices)[1].tolist() == [False, True]
    assert factor_of(scaled)[1].tolist() == [False, True]


def a_copy(rng, size):
    """Integers of which the last column is one of the others."""
    others = rng.integers(-3, 4, (size + 2, size - 1))
    return np.column_stack([others, others[:, rng.integers(size - 1)]])


def a_sum(rng, size):
    """Integers of which the last column is a sum of others, some with the opposite sign."""
    others = rng.integers(-3, 4, (size + 2, size - 1))
    return np.column_stack([others, others @ rng.choice([-1, 1], size - 1)])


def few_rows(rng, size):
    """Integers of fewer rows than columns."""
    return rng.integers(-30, 31, (size - 1, size))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", [2, 3, 4, 7, 20])
@pytest.mark.parametrize("rows", [a_copy, a_sum, few_rows], ids=lambda rows: rows.__name__)
def test_singular_matrices_are_not_reliable_on_any_processor(rng, rows, size, dtype):
    """Integers, so that the products are exact; whether a factor exists is a matter of rounding."""
    found = [rows(rng, size) for _ in range(200)]
    products = tensor(np.stack([x.T @ x for x in found]).astype(float))
    # In float32, too, and without the constant features that are found by a variance of zero.
    kept = (products.abs() < 2**24).all(-1).all(-1) & (products.diagonal(0, -2, -1) > 0).all(-1)
    assert kept.double().mean() > 0.5
    scales = tensor(2.0 ** rng.integers(-10, 11, (200, size)))
    for matrices in products, scales.unsqueeze(-1) * products * scales.unsqueeze(-2):
        _, reliable = factor_of(matrices[kept].to(dtype))
        assert not reliable.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_reliable_factor_has_a_right_digit(rng, dtype):
    """Half of the last feature's own variance may be rounding: its inverse is off by half."""
    own = 10.0 ** rng.uniform(-16 if dtype == torch.float64 else -7, -3, 500)
    found = []
    for variance in own:
        x = rng.integers(-3, 4, (12, 5)).astype(float)
        narrow = np.sqrt(variance) * rng.standard_normal(12)
        found.append(np.column_stack([x, x @ rng.uniform(-1, 1, 5) + narrow]))
    matrices = tensor(np.stack([x.T @ x for x in found])).to(dtype)
    factors, reliable = factor_of(matrices)
    assert {True, False} == set(reliable.tolist())
    for matrix, factor in zip(matrices[reliable], factors[reliable], strict=True):
        precise = mpmath.inverse(mpmath.matrix(matrix.double().tolist()))[5, 5]
        assert 0.5 < float(factor[5, 5]) ** 2 / float(precise) < 2.0


@pytest.mark.parametrize(
    "position",
    [
        pytest.param((0, 0), id="first variance"),
        pytest.param((2, 2), id="last variance"),
        pytest.param((1, 0), id="covariance"),
    ],
)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_matrices_that_are_not_finite_are_not_reliable(position, value):
    matrices = torch.eye(3, dtype=torch.float64).repeat(2, 1, 1)
    for place in (position, position[::-1]):
        matrices[1][place] = value
    assert factor_of(matrices)[1].tolist() == [True, False]
