"""Small symmetric matrices: packing, and triangular factors in both directions."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=64)
def upper_triangle(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Row and column indices of the upper triangle, row by row."""
    rows, columns = torch.triu_indices(size, size, device=device)
    return rows, columns


@lru_cache(maxsize=64)
def _unpacking_order(size: int, device: torch.device) -> Tensor:
    rows, columns = upper_triangle(size, device)
    order = torch.empty(size, size, dtype=torch.long, device=device)
    positions = torch.arange(rows.numel(), device=device)
    order[rows, columns] = positions
    order[columns, rows] = positions
    return order.flatten()


def pack_symmetric(matrices: Tensor) -> Tensor:
    """Upper triangles ``[..., D(D+1)/2]`` of ``[..., D, D]``."""
    rows, columns = upper_triangle(matrices.shape[-1], matrices.device)
    return matrices[..., rows, columns]


def unpack_symmetric(packed: Tensor, size: int) -> Tensor:
    """Symmetric matrices ``[..., D, D]`` from their upper triangles ``[..., D(D+1)/2]``."""
    order = _unpacking_order(size, packed.device)
    matrices: Tensor = packed[..., order].unflatten(-1, (size, size))
    return matrices


def identity_like(matrices: Tensor) -> Tensor:
    """Identity matrices in the shape of ``matrices [..., D, D]``."""
    size = matrices.shape[-1]
    return torch.eye(size, dtype=matrices.dtype, device=matrices.device).expand_as(matrices)


def inverse_cholesky(covariances: Tensor) -> tuple[Tensor, Tensor]:
    """``U = L⁻ᵀ`` of ``Σ = L Lᵀ``, so that ``U Uᵀ = Σ⁻¹``; and a mask of the factored ones.

    Parameters
    ----------
    covariances : Tensor [..., D, D]

    Returns
    -------
    U : Tensor [..., D, D], upper triangular
    usable : Tensor [...], bool
    """
    lower, info = torch.linalg.cholesky_ex(covariances)
    inverse = torch.linalg.solve_triangular(lower, identity_like(lower), upper=False)
    # NaN factors without complaint on some back ends; an infinite variance has the precision 0.
    finite = inverse.isfinite() & covariances.isfinite()
    usable = (info == 0) & finite.all(-1).all(-1)
    return inverse.mT, usable


def upper_cholesky(precisions: Tensor) -> Tensor:
    """Upper-triangular ``U [..., D, D]`` with ``U Uᵀ = precisions``.

    The Cholesky factor of the matrix with rows and columns reversed, reversed back.
    """
    reversed_factor: Tensor = torch.linalg.cholesky(precisions.flip((-2, -1)))
    return reversed_factor.flip((-2, -1))
