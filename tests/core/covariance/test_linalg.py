import numpy as np
import pytest
import torch

from sklearn_torch_gmm.core.covariance.linalg import (
    identity_like,
    inverse_cholesky,
    pack_symmetric,
    symmetric_pairs,
    unpack_symmetric,
    upper_cholesky,
    write_products,
)
from tests.core import oracle
from tests.core.steps import tensor


def pairs_of(size):
    rows, columns = symmetric_pairs(size, torch.device("cpu"))
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def test_pairs_go_by_their_distance_around_the_cycle():
    assert pairs_of(3) == [(0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0)]
    # Half around a cycle of even length, (2, 0) is (0, 2) again.
    assert pairs_of(4) == [
        *[(0, 0), (1, 1), (2, 2), (3, 3)],
        *[(0, 1), (1, 2), (2, 3), (3, 0)],
        *[(0, 2), (1, 3)],
    ]


@pytest.mark.parametrize("size", range(1, 10))
def test_every_pair_comes_once(size):
    pairs = {frozenset(pair) for pair in pairs_of(size)}
    assert len(pairs_of(size)) == len(pairs) == size * (size + 1) // 2


@pytest.mark.parametrize("size", [1, 2, 3, 8, 9])
def test_products_stand_where_packing_puts_them(rng, size):
    x = tensor(rng.normal(size=(size, 5)))
    products = torch.full((size * (size + 1) // 2, 5), torch.nan, dtype=x.dtype)
    write_products(x, products)
    outer = torch.einsum("in,jn->nij", x, x)
    torch.testing.assert_close(products.T, pack_symmetric(outer), rtol=0, atol=0)


def test_packing_keeps_one_of_each_pair():
    matrix = torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]])
    packed = pack_symmetric(matrix)
    assert packed.tolist() == [1, 4, 6, 2, 5, 3]
    torch.testing.assert_close(unpack_symmetric(packed, 3), matrix, rtol=0, atol=0)


def test_packing_works_under_leading_dimensions(rng):
    matrices = tensor(oracle.random_matrices(rng, 6, 4)).reshape(2, 3, 4, 4)
    packed = pack_symmetric(matrices)
    assert packed.shape == (2, 3, 10)
    torch.testing.assert_close(unpack_symmetric(packed, 4), matrices, rtol=0, atol=0)


def test_identity_has_shape_and_type_of_its_model():
    identity = identity_like(torch.empty(2, 3, 3, dtype=torch.float32))
    assert identity.dtype == torch.float32
    np.testing.assert_array_equal(identity, np.stack([np.eye(3)] * 2))


def test_inverse_cholesky_is_the_upper_root_of_the_inverse(rng):
    matrices = oracle.random_matrices(rng, 3, 5)
    factors, usable = inverse_cholesky(tensor(matrices))
    assert usable.all()
    np.testing.assert_array_equal(factors, np.triu(factors))
    # float64 and condition numbers up to a hundred: 1e-13.
    np.testing.assert_allclose(factors @ factors.mT, np.linalg.inv(matrices), rtol=1e-11)


def test_one_indefinite_matrix_does_not_spoil_the_others():
    matrices = torch.eye(2).repeat(3, 1, 1)
    matrices[1] = torch.tensor([[1.0, 2.0], [2.0, 1.0]])
    factors, usable = inverse_cholesky(matrices)
    assert usable.tolist() == [True, False, True]
    torch.testing.assert_close(factors[usable], matrices[usable])


def test_upper_cholesky_is_the_upper_root(rng):
    precisions = oracle.random_matrices(rng, 3, 5)
    factors = upper_cholesky(tensor(precisions))
    np.testing.assert_array_equal(factors, np.triu(factors))
    np.testing.assert_allclose(factors @ factors.mT, precisions, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize(("variance", "usable"), [(0.0, False), (5e-324, True), (1e308, True)])
def test_the_smallest_and_largest_variances_are_usable_and_zero_is_not(variance, usable):
    matrix = torch.diag(torch.tensor([1.0, variance], dtype=torch.float64))
    assert inverse_cholesky(matrix)[1].item() is usable


def test_indices_that_are_cached_in_inference_mode_serve_autograd():
    symmetric_pairs.cache_clear()
    with torch.inference_mode():
        pack_symmetric(torch.eye(3))
    matrices = torch.eye(3, requires_grad=True)
    pack_symmetric(matrices).sum().backward()
    assert matrices.grad.sum() == 6
