"""The common base of the structures that store covariance matrices."""

from __future__ import annotations

from torch import Tensor

from sklearn_torch_gmm.core.covariance.base import CovarianceStructure
from sklearn_torch_gmm.core.covariance.linalg import (
    identity_like,
    invert_triangular,
    product,
    upper_cholesky,
)


class MatrixCovariance(CovarianceStructure):
    """Covariances are matrices ``[..., D, D]``; precisions are stored as triangular factors."""

    def regularize(self, covariances: Tensor, amount: float) -> Tensor:
        covariances.diagonal(dim1=-2, dim2=-1).add_(amount)
        return covariances

    def precisions_cholesky_from_precisions(self, precisions: Tensor) -> Tensor:
        return upper_cholesky(precisions)

    def precisions(self, precisions_cholesky: Tensor) -> Tensor:
        return product(precisions_cholesky, precisions_cholesky.mT)

    def unit_covariances(self, like: Tensor) -> Tensor:
        return identity_like(like).clone()

    def covariances(self, precisions_cholesky: Tensor) -> Tensor:
        factor = invert_triangular(precisions_cholesky, upper=True)
        return factor.mT @ factor

    def log_cholesky(self, precisions_cholesky: Tensor, scale: Tensor) -> Tensor:
        diagonal = precisions_cholesky.diagonal(dim1=-2, dim2=-1).log()
        # x is in units of the scale s where x / s is a number: U becomes diag(s) U.
        scaled = precisions_cholesky * _for_rows(scale, precisions_cholesky)
        return scaled.triu(1) + diagonal.diag_embed()

    def from_log_cholesky(self, coordinates: Tensor, scale: Tensor) -> Tensor:
        diagonal = coordinates.diagonal(dim1=-2, dim2=-1).exp()
        return coordinates.triu(1) / _for_rows(scale, coordinates) + diagonal.diag_embed()


def _for_rows(scale: Tensor, matrices: Tensor) -> Tensor:
    """Give ``scale [R, D]`` an axis for the columns of matrices, and one for each component."""
    axes = [1] * (matrices.ndim - 3)
    return scale.view(scale.shape[0], *axes, scale.shape[1], 1)
