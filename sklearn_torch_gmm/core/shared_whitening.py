"""Log-densities from rows that are whitened once, for components that share a covariance matrix.

The residuals z_k = Uᵀ(x − c) − Uᵀ(μ_k − c) are differences of a whitened row to K whitened means.
The pooled scatter needs only their sum over the components, y = Σ_k r z_k: it is
Σ y (x − c)ᵀ U − Σ_k (Σ r z_k)(μ_k − c)ᵀ U. All errors grow with the distance of the means from the
centre in standard deviations, and not with its square.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.covariance.base import LOG_2PI
from sklearn_torch_gmm.core.covariance.linalg import invert_triangular
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.ways import Chunk, Way


class SharedWhitening(Way):
    """All components of R mixtures, with moments about ``points [R, K, D]``.

    The scatter is added to that of ``moments``.
    """

    def __init__(
        self,
        parameters: MixtureParameters,
        centre: Tensor,
        points: Tensor,
        structure: CovarianceStructure,
        moments: Moments,
    ) -> None:
        sizes = self._sizes = parameters.means.shape
        self._factors = parameters.precisions_cholesky
        self._means = (parameters.means - centre) @ self._factors
        self._points = (points - centre) @ self._factors
        constants = parameters.log_weights + structure.log_determinants(self._factors, *sizes[1:])
        self._constants = constants.sub_(0.5 * sizes[2] * LOG_2PI).flatten().unsqueeze(-1)
        self._scatter = moments.scatter
        self._x = self._means
        self._sums: tuple[Tensor, Tensor, Tensor] | None = None

    @property
    def scratch_per_row(self) -> int:
        restarts, _, num_features = self._sizes
        return 2 * restarts * num_features

    def write_log_densities(self, chunk: Chunk, logits: Tensor, scratch: Tensor) -> None:
        restarts, components, num_features = self._sizes
        lanes = len(logits)
        x, residuals = scratch.unflatten(1, (2, restarts, num_features)).unbind(1)
        whiten = self._factors.mT.flatten(0, 1).expand(lanes, -1, -1)
        torch.bmm(whiten, chunk.features[:, 1 : num_features + 1], out=x.flatten(1, 2))
        distances = logits.unflatten(1, (restarts, components))
        for component in range(components):
            torch.sub(x, self._means[:, component, :, None], out=residuals)
            torch.sum(residuals.mul_(residuals), 2, out=distances[:, :, component])
        torch.add(self._constants, logits, alpha=-0.5, out=logits)
        self._x = x

    def add_moments(self, chunk: Chunk, responsibilities: Tensor) -> None:
        by_mixture = responsibilities.unflatten(1, self._sizes[:2])
        x = self._x
        if self._sums is None:
            restarts, components, num_features = self._sizes
            self._sums = (
                x.new_zeros(restarts, components),
                x.new_zeros(restarts, components, num_features),
                x.new_zeros(restarts, num_features, num_features),
            )
        counts, first, second = self._sums
        counts.add_(by_mixture.sum((0, -1)))
        first.add_((by_mixture @ x.mT).sum(0))
        residuals = x * by_mixture.sum(2, keepdim=True)
        residuals.sub_(self._points.mT @ by_mixture)
        second.add_((residuals @ x.mT).sum(0))

    def finish(self, sums: Tensor) -> None:
        if self._sums is None:
            return
        assert self._scatter is not None
        counts, first, second = self._sums
        first = first - counts.unsqueeze(-1) * self._points
        second = second - first.mT @ self._points
        # The inverse of Uᵀ reverses the whitening.
        lower = invert_triangular(self._factors.mT, upper=False)
        self._scatter.add_(lower @ (0.5 * (second + second.mT)) @ lower.mT)
        own = torch.cat([counts.unsqueeze(-1), first @ lower.mT], dim=-1)
        sums.add_(own.flatten(0, 1))
        self._sums = None
