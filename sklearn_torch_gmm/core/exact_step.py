"""The exact E-step, for data whose spread is large relative to a standard deviation."""

from __future__ import annotations

from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.e_step import EStep
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.workspace import LEAST_ROWS, Workspace


class ExactEStep(EStep):
    """Subtracts the means before any product.

    The moments are taken about the points ``about [R, K, D]``, by default the means of
    ``parameters``. Points that lie many standard deviations from the means of the following M-step
    would cost precision in its covariances.
    """

    def __init__(
        self,
        parameters: MixtureParameters,
        centre: Tensor,
        structure: CovarianceStructure,
        workspace: Workspace,
        *,
        about: Tensor | None = None,
        with_certainty: bool = False,
        with_entropy: bool = False,
        classes: Tensor | None = None,
    ) -> None:
        super().__init__(
            parameters,
            parameters.means if about is None else about,
            structure,
            workspace,
            with_certainty=with_certainty,
            with_entropy=with_entropy,
            classes=classes,
        )
        if structure.has_pooled_scatter:
            restarts, _, features = parameters.means.shape
            self.moments.scatter = centre.new_zeros(restarts, features, features)

    def add(
        self, rows: Tensor, sample_weight: Tensor | None = None, labels: Tensor | None = None
    ) -> None:
        size = self.rows_per_chunk
        for start in range(0, rows.shape[0], size):
            place = slice(start, start + size)
            weights = None if sample_weight is None else sample_weight[None, place]
            known = None if labels is None else labels[None, place]
            self._add_chunk(rows[place], weights, known)

    @property
    def rows_per_chunk(self) -> int:
        """Number of rows per chunk."""
        # Each chunk writes a matrix for each component, which would dominate with fewer rows.
        independent = self.structure.has_independent_features
        least = 1 if independent else max(LEAST_ROWS, self.parameters.means.shape[-1])
        return self.workspace.rows_per_chunk(3 * self.parameters.means.numel(), least=least)

    def _add_chunk(self, rows: Tensor, sample_weight: Tensor | None, labels: Tensor | None) -> None:
        mixture, moments, structure = self.parameters, self.moments, self.structure
        num_features = rows.shape[1]
        # Contiguous, because the memory layout would otherwise change how sums are rounded.
        x = rows.T.to(mixture.means.dtype).contiguous()
        logits = structure.joint_log_densities(
            x, mixture.log_weights, mixture.means, mixture.precisions_cholesky
        )
        # The leading dimension stands for a single lane.
        self.weigh(logits[None], sample_weight, labels)
        residuals = x - self.centre.unsqueeze(-1)
        moments.counts.add_(logits.sum(-1))
        moments.first(num_features).add_((residuals @ logits.unsqueeze(-1)).squeeze(-1))
        second = structure.centred_second_moments(residuals, logits)
        if moments.scatter is None:
            moments.second(num_features).add_(second)
        else:
            moments.scatter.add_(second)

    def log_likelihood(self, moments: Moments) -> Tensor:
        return moments.log_likelihood
