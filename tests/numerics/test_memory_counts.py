"""Memory of an M-step with many matrices: of the tensors that exist after each operation."""

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sklearn_torch_gmm.core.covariance import linalg
from sklearn_torch_gmm.core.covariance.full import FullCovariance
from sklearn_torch_gmm.core.m_step import m_step
from sklearn_torch_gmm.core.moments import Moments

K, D = 64, 16
MATRICES = 8 * K * D * D


class Memory(TorchDispatchMode):
    """The largest sum of the bytes of tensors made by operations since it was entered."""

    def __init__(self):
        super().__init__()
        self.peak = 0
        self._storages = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        known = {t.untyped_storage()._cdata for t in tensors_of((args, kwargs))}
        results = function(*args, **(kwargs or {}))
        for tensor in tensors_of(results):
            storage = tensor.untyped_storage()
            if storage._cdata not in known:
                self._storages[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        alive = {key: own for key, own in self._storages.items() if not own[0].expired()}
        self._storages = alive
        self.peak = max(self.peak, sum(size for _, size in alive.values()))
        return results


def tensors_of(values):
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


@pytest.fixture
def moments():
    """Of components that differ, one of which is empty."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(K, D, 5 * D, generator=generator, dtype=torch.float64)
    responsibilities = torch.rand(K, 5 * D, generator=generator, dtype=torch.float64)
    responsibilities[3] = 0.0
    second = FullCovariance().centred_second_moments(rows, responsibilities)
    counts = responsibilities.sum(-1, keepdim=True)
    first = (rows * responsibilities.unsqueeze(1)).sum(-1)
    return Moments(torch.cat([counts, first, second], dim=-1).unsqueeze(0), torch.zeros(1))


def step(moments, rare_cases):
    means = torch.zeros(1, K, D, dtype=torch.float64)
    return m_step(moments, means[0, 0], means, FullCovariance(), 1e-3, rare_cases=rare_cases)


@pytest.mark.parametrize("rare_cases", [False, True])
def test_an_m_step_takes_little_more_memory_than_its_results(moments, rare_cases, monkeypatch):
    monkeypatch.setattr(linalg, "BLOCK_BYTES", MATRICES // 16)
    step(moments, rare_cases)  # makes the indices of a triangle, which are kept
    with Memory() as memory:
        result = step(moments, rare_cases)
    # Covariances and factors, and three times a block.
    assert 2 * MATRICES < memory.peak < 2.4 * MATRICES
    assert rare_cases == (result.empty is not None and result.empty.sum() == 1)


def test_natural_parameters_take_half_the_memory_of_matrices(moments, monkeypatch):
    parameters = step(moments, True).parameters
    monkeypatch.setattr(linalg, "BLOCK_BYTES", MATRICES // 16)
    with Memory() as memory:
        natural = FullCovariance().natural_parameters(
            parameters.log_weights, parameters.means, parameters.precisions_cholesky
        )
    # Half of the matrices as they are found, and once more together with the other parameters.
    assert natural.nbytes < memory.peak < 1.4 * MATRICES


def test_blocks_change_no_result(moments, monkeypatch):
    whole = step(moments, True)
    monkeypatch.setattr(linalg, "BLOCK_BYTES", MATRICES // 5)
    in_blocks = step(moments, True)
    for one, other in zip(whole.parameters.tensors(), in_blocks.parameters.tensors(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-14, atol=0.0)
        assert one.stride() == other.stride()
    assert whole.usable.all()
    assert in_blocks.usable.all()
    naturals = [
        FullCovariance().natural_parameters(own.log_weights, own.means, own.precisions_cholesky)
        for own in (whole.parameters, in_blocks.parameters)
    ]
    torch.testing.assert_close(*naturals, rtol=1e-12, atol=1e-12)


def test_a_matrix_is_not_divided(monkeypatch):
    monkeypatch.setattr(linalg, "BLOCK_BYTES", 1)
    matrix = torch.tensor([[4.0, 2.0], [2.0, 3.0]])
    factor, usable = linalg.inverse_cholesky(matrix)
    torch.testing.assert_close(factor @ factor.mT, torch.linalg.inv(matrix))
    assert usable.shape == ()
    assert usable
