"""Packing of small symmetric matrices, and triangular factors of them and of their inverses."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from sklearn_torch_gmm.core.processes import expect_forks

BLOCK_BYTES = 2**24
"""Memory of the matrices that are factored at once.

Factoring takes three times the memory of its result. With twice the value, an M-step of [128
features] → 1024 would take 352 instead of 304 MiB; a quarter would be too few matrices for a GPU.
"""


@lru_cache(maxsize=64)
def symmetric_pairs(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Row and column indices of one entry of each symmetric pair, by cyclic distance.

    All (i, i) are followed by all (i, i + 1), with i + 1 modulo ``size``, and so on. In this order
    :func:`write_products` needs two operations for any size.
    """
    # The cache outlives the first caller, and autograd cannot use tensors of inference mode.
    with torch.inference_mode(mode=False):
        positions = torch.arange(size * (size + 1) // 2, device=device)
        rows = positions % size
        return rows, (rows + positions // size) % size


@lru_cache(maxsize=64)
def _packing_order(size: int, device: torch.device) -> Tensor:
    rows, columns = symmetric_pairs(size, device)
    with torch.inference_mode(mode=False):
        return rows * size + columns


@lru_cache(maxsize=64)
def _unpacking_order(size: int, device: torch.device) -> Tensor:
    rows, columns = symmetric_pairs(size, device)
    with torch.inference_mode(mode=False):
        order = torch.empty(size, size, dtype=torch.long, device=device)
        positions = torch.arange(rows.numel(), device=device)
        order[rows, columns] = positions
        order[columns, rows] = positions
        return order.flatten()


def product(first: Tensor, second: Tensor) -> Tensor:
    """The products ``first @ second``; of two stacks of matrices in half the time, if small."""
    if first.ndim == 3 and second.ndim == 3:
        return torch.bmm(first, second)
    return first @ second


def pack_symmetric(matrices: Tensor) -> Tensor:
    """One entry of each pair, ``[..., D(D+1)/2]``, of symmetric ``matrices [..., D, D]``."""
    order = _packing_order(matrices.shape[-1], matrices.device)
    return entries_of(matrices.flatten(-2), order)


def unpack_symmetric(packed: Tensor, size: int) -> Tensor:
    """Symmetric matrices ``[..., D, D]`` from the result of :func:`pack_symmetric`."""
    order = _unpacking_order(size, packed.device)
    return entries_of(packed, order).view(*packed.shape[:-1], size, size)


def entries_of(values: Tensor, places: Tensor) -> Tensor:
    """``values [..., n]`` at the same ``places [m]`` of the last axis: ``[..., m]``.

    It takes a quarter of the time of ``values[..., places]``.
    """
    return values.gather(-1, places.expand(*values.shape[:-1], -1))


def write_products(x: Tensor, out: Tensor) -> None:
    """Write x_i x_j for ``x [..., D, n]`` into ``out [..., D(D+1)/2, n]``.

    The pairs are ordered as in :func:`symmetric_pairs`.
    """
    size = x.shape[-2]
    half = size // 2
    # With the first rows repeated at the end, the partners at each distance are adjacent.
    partners = torch.cat([x, x[..., :half, :]], dim=-2).unfold(-2, size, 1).mT
    distances = (size + 1) // 2
    whole = out[..., : distances * size, :].unflatten(-2, (distances, size))
    torch.mul(x.unsqueeze(-3), partners[..., :distances, :, :], out=whole)
    if size % 2 == 0:
        # At half the cycle, each pair would occur twice.
        rest = out[..., distances * size :, :]
        torch.mul(x[..., :half, :], partners[..., half, :half, :], out=rest)


def identity_like(matrices: Tensor) -> Tensor:
    """Identity matrices in the shape of ``matrices [..., D, D]``, to be read only."""
    return _identity(matrices.shape[-1], matrices.dtype, matrices.device).expand_as(matrices)


@lru_cache(maxsize=64)
def _identity(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False):
        return torch.eye(size, dtype=dtype, device=device)


def invert_triangular(matrices: Tensor, *, upper: bool) -> Tensor:
    """Inverses of triangular ``matrices [..., D, D]``."""
    inverses: Tensor = torch.linalg.solve_triangular(matrices, identity_like(matrices), upper=upper)
    return inverses


def in_blocks(matrices: Tensor) -> Iterator[slice]:
    """Slices of ``matrices [n, D, D]`` of at most :data:`BLOCK_BYTES`, or of a single matrix."""
    num_matrices, rows, columns = matrices.shape
    size = max(1, BLOCK_BYTES // max(1, rows * columns * matrices.itemsize))
    return (slice(start, start + size) for start in range(0, num_matrices, size))


def inverse_cholesky(covariances: Tensor) -> tuple[Tensor, Tensor]:
    """``U = L⁻ᵀ`` for ``Σ = L Lᵀ [..., D, D]``, so that ``U Uᵀ = Σ⁻¹``; and a mask where L exists.

    U is upper triangular; the mask ``[...]`` holds bools. An L that exists may be no more than
    rounding error: :func:`~sklearn_torch_gmm.core.rounding.are_reliable` tells.
    """
    expect_forks()
    if covariances.nbytes <= BLOCK_BYTES:
        inverse, exists = _inverse_cholesky(covariances)
        return inverse.mT, exists
    matrices = covariances.flatten(0, -3) if covariances.ndim > 2 else covariances.unsqueeze(0)
    # Stored as solutions of triangular systems are, column by column.
    inverses = torch.empty_like(matrices, memory_format=torch.contiguous_format).mT
    exist = torch.empty(len(matrices), dtype=torch.bool, device=matrices.device)
    for block in in_blocks(matrices):
        inverses[block], exist[block] = _inverse_cholesky(matrices[block])
    shape = covariances.shape
    return inverses.mT.view(shape), exist.view(shape[:-2])


def _inverse_cholesky(covariances: Tensor) -> tuple[Tensor, Tensor]:
    """``L⁻¹`` and the mask."""
    lower, info = torch.linalg.cholesky_ex(covariances)
    return invert_triangular(lower, upper=False), info.logical_not()


def upper_cholesky(precisions: Tensor) -> Tensor:
    """Upper-triangular ``U [..., D, D]`` with ``U Uᵀ = precisions``.

    The Cholesky factor of the matrix with rows and columns reversed, reversed back.
    """
    reversed_factor: Tensor = torch.linalg.cholesky(precisions.flip((-2, -1)))
    return reversed_factor.flip((-2, -1))
