"""What the structures that store variances share."""

from __future__ import annotations

from torch import Tensor

from sklearn_torch_gmm.core.covariance.base import CovarianceStructure


class VarianceCovariance(CovarianceStructure):
    """Covariances are variances; the factor of a precision is its square root."""

    has_independent_features = True

    def matrices(self, covariances: Tensor, num_components: int, num_features: int) -> Tensor:
        return self.variances(covariances, num_features).diag_embed()

    def regularize(self, covariances: Tensor, amount: float) -> Tensor:
        return covariances.add_(amount)

    def precisions_cholesky_from_precisions(self, precisions: Tensor) -> Tensor:
        return precisions.sqrt()

    def precisions(self, precisions_cholesky: Tensor) -> Tensor:
        return precisions_cholesky.square()

    def unit_covariances(self, like: Tensor) -> Tensor:
        return like.new_ones(like.shape)

    def covariances(self, precisions_cholesky: Tensor) -> Tensor:
        return precisions_cholesky.square().reciprocal()
