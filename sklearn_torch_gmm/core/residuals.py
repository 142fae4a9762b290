"""Log-densities and moments of some components from the differences between rows and means."""

from __future__ import annotations

from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.ways import Chunk, Selection, Way


class Residuals(Way):
    """Subtracts the means before any product, in one lane.

    The moments are taken about ``points [R, K, D]``. A pooled scatter is added to that of
    ``moments``; with one, or if covariances are shared in another way, ``chosen`` are all
    components.
    """

    def __init__(
        self,
        parameters: MixtureParameters,
        points: Tensor,
        structure: CovarianceStructure,
        chosen: Selection,
        moments: Moments,
    ) -> None:
        self._log_weights = parameters.log_weights
        self._means, self._factors = parameters.means, parameters.precisions_cholesky
        self._points = points
        if not chosen.is_all:
            self._log_weights = chosen.of(self._log_weights.flatten())
            self._means, self._factors, self._points = (
                chosen.of(values.flatten(0, 1))
                for values in (self._means, self._factors, self._points)
            )
        self._structure = structure
        self._chosen = chosen
        self._scatter = moments.scatter
        self._x = self._means
        sums = moments.sums
        # No copy, unless other methods add to the same sums.
        self._sums = sums if chosen.is_all else sums.new_zeros(chosen.size, sums.shape[-1])

    def write_log_densities(self, chunk: Chunk, logits: Tensor, scratch: Tensor) -> None:
        # Contiguous, since the memory layout would otherwise change the rounding of sums.
        self._x = chunk.rows.flatten(0, 1).T.to(logits.dtype).contiguous()
        own = self._structure.joint_log_densities(
            self._x, self._log_weights, self._means, self._factors
        )
        if self._chosen.is_all:
            logits.copy_(own.view(logits.shape))
        else:
            self._chosen.put(own.unsqueeze(0), logits, 1)

    def add_moments(self, chunk: Chunk, responsibilities: Tensor) -> None:
        num_features = self._x.shape[0]
        own = self._chosen.of(responsibilities, 1).view(*self._means.shape[:-1], -1)
        residuals = self._x - self._points.unsqueeze(-1)
        sums = self._sums
        sums[..., 0].add_(own.sum(-1))
        first = sums[..., 1 : num_features + 1]
        first.add_((residuals @ own.unsqueeze(-1)).squeeze(-1))
        second = self._structure.centred_second_moments(residuals, own)
        if self._scatter is None:
            sums[..., num_features + 1 :].add_(second)
        else:
            self._scatter.add_(second)

    def finish(self, sums: Tensor) -> None:
        if not self._chosen.is_all:
            self._chosen.add(self._sums, sums)
            self._sums.zero_()
