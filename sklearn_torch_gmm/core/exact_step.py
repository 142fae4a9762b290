"""The exact E-step, for data that lie far out against the width of a component."""

from __future__ import annotations

from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.e_step import EStep
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.workspace import LEAST_ROWS, Workspace


class ExactEStep(EStep):
    """Differences to the means before any product, moments about the means or near the next ones.

    Parameters
    ----------
    about : Tensor [R, K, D] or None
        What the moments are about; None: the means of ``parameters``. Moments about points that are
        many widths from the next means lose the digits of the covariances.
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
    ) -> None:
        super().__init__(
            parameters,
            parameters.means if about is None else about,
            structure,
            workspace,
            with_certainty=with_certainty,
        )
        if structure.has_pooled_scatter:
            restarts, _, features = parameters.means.shape
            self.moments.scatter = centre.new_zeros(restarts, features, features)

    def add(self, rows: Tensor, sample_weight: Tensor | None = None) -> None:
        size = self.rows_per_chunk
        for start in range(0, rows.shape[0], size):
            place = slice(start, start + size)
            weights = None if sample_weight is None else sample_weight[place]
            self._add_chunk(rows[place], weights)

    @property
    def rows_per_chunk(self) -> int:
        """How many rows are worked on at once."""
        # Each chunk writes a matrix a component: with fewer rows that would be most of the work.
        independent = self.structure.has_independent_features
        least = 1 if independent else max(LEAST_ROWS, self.parameters.means.shape[-1])
        return self.workspace.rows_per_chunk(3 * self.parameters.means.numel(), least=least)

    def _add_chunk(self, rows: Tensor, sample_weight: Tensor | None) -> None:
        mixture, moments, structure = self.parameters, self.moments, self.structure
        num_features = rows.shape[1]
        # In one order: that of memory would decide how sums are rounded.
        x = rows.T.to(mixture.means.dtype).contiguous()
        logits = structure.joint_log_densities(
            x, mixture.weights, mixture.means, mixture.precisions_cholesky
        )
        # In one lane.
        self.weigh(logits[None], None if sample_weight is None else sample_weight[None])
        differences = x - self.centre.unsqueeze(-1)
        moments.counts.add_(logits.sum(-1))
        moments.first(num_features).add_((differences @ logits.unsqueeze(-1)).squeeze(-1))
        second = structure.centred_second_moments(differences, logits)
        if moments.scatter is None:
            moments.second(num_features).add_(second)
        else:
            moments.scatter.add_(second)

    def log_likelihood(self, moments: Moments) -> Tensor:
        return moments.log_likelihood
