"""Log-densities from rows that are whitened once, for components that share a covariance matrix.

The residuals z_k = Uᵀ(x − c) − Uᵀ(μ_k − c) are differences of a whitened row to K whitened means.
In units of the standard deviations, let x be a row, p_k the point of a component, R = Σ_k r, and
p̄ = Σ_k r p_k / R. The pooled scatter is that about p̄ and that of the points for the same row:

    Σ_k r (x − p_k)(x − p_k)ᵀ  =  R (x − p̄)(x − p̄)ᵀ + Σ_j<k (r_j r_k / R) (p_j − p_k)(p_j − p_k)ᵀ

Only differences are multiplied by each other, so all errors grow with the distance of the means
from the centre in standard deviations, and not with its square. The weights of the K² pairs of
points are a product of the responsibilities with themselves.
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

VALUES_OF_PAIRS = 2**20
"""Maximum number of values in differences of points that are computed at once: 8 MiB in float64.

With half the value, two hundred points in thirty dimensions would take twice the operations.
"""


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
        # The whitened rows of a chunk, and memory for values of all components.
        self._rows: tuple[Tensor, Tensor] | None = None
        self._sums: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    @property
    def scratch_per_row(self) -> int:
        restarts, components, num_features = self._sizes
        return restarts * (2 * num_features + components)

    def write_log_densities(self, chunk: Chunk, logits: Tensor, scratch: Tensor) -> None:
        restarts, components, num_features = self._sizes
        lanes, by_feature = len(logits), 2 * restarts * num_features
        both = scratch[:, :by_feature].unflatten(1, (2, restarts, num_features))
        x, residuals = both.unbind(1)
        whiten = self._factors.mT.flatten(0, 1).expand(lanes, -1, -1)
        torch.bmm(whiten, chunk.features[:, 1 : num_features + 1], out=x.flatten(1, 2))
        distances = logits.unflatten(1, (restarts, components))
        for component in range(components):
            torch.sub(x, self._means[:, component, :, None], out=residuals)
            torch.sum(residuals.mul_(residuals), 2, out=distances[:, :, component])
        torch.add(self._constants, logits, alpha=-0.5, out=logits)
        self._rows = x, scratch[:, by_feature:].unflatten(1, (restarts, components))

    def add_moments(self, chunk: Chunk, responsibilities: Tensor) -> None:
        by_mixture = responsibilities.unflatten(1, self._sizes[:2])
        assert self._rows is not None
        x, shares = self._rows
        if self._sums is None:
            restarts, components, num_features = self._sizes
            self._sums = (
                x.new_zeros(restarts, components),
                x.new_zeros(restarts, components, num_features),
                x.new_zeros(restarts, num_features, num_features),
                x.new_zeros(restarts, components, components),
            )
        counts, first, second, overlaps = self._sums
        counts.add_(by_mixture.sum((0, -1)))
        first.add_((by_mixture @ x.mT).sum(0))
        # A row of weight zero has shares of zero.
        total = by_mixture.sum(2, keepdim=True)
        torch.div(by_mixture, total.clamp_min(torch.finfo(x.dtype).tiny), out=shares)
        overlaps.add_((by_mixture @ shares.mT).sum(0))
        away = x - self._points.mT @ shares
        second.add_(((away * total) @ away.mT).sum(0))

    def finish(self, sums: Tensor) -> None:
        if self._sums is None:
            return
        assert self._scatter is not None
        counts, first, second, overlaps = self._sums
        first = first - counts.unsqueeze(-1) * self._points
        second = second + self._scatter_of_points(overlaps)
        # The inverse of Uᵀ reverses the whitening.
        lower = invert_triangular(self._factors.mT, upper=False)
        self._scatter.add_(lower @ second @ lower.mT)
        own = torch.cat([counts.unsqueeze(-1), first @ lower.mT], dim=-1)
        sums.add_(own.flatten(0, 1))
        self._sums = None

    def _scatter_of_points(self, overlaps: Tensor) -> Tensor:
        """The second sum ``[R, D, D]`` over all rows, given the weights ``[R, K, K]`` of pairs."""
        restarts, components, num_features = self._sizes
        found = overlaps.new_zeros(restarts, num_features, num_features)
        size = max(1, VALUES_OF_PAIRS // self._points.numel())
        for start in range(0, components, size):
            some = slice(start, start + size)
            differences = self._points[:, some].unsqueeze(2) - self._points.unsqueeze(1)
            weighted = differences * overlaps[:, some].unsqueeze(-1)
            found.add_(weighted.flatten(1, 2).mT @ differences.flatten(1, 2))
        # Each pair has been counted twice.
        return found.mul_(0.5)
