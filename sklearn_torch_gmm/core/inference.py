"""What a fitted mixture says of rows: in bounded memory, always by the exact log-densities."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.workspace import Workspace


class Inference:
    """Labels, responsibilities and log-densities of rows under one mixture.

    Parameters
    ----------
    parameters : MixtureParameters
        Of one mixture, ``[1, ...]``, in the type and on the device of the arithmetic.
    structure : CovarianceStructure
    """

    def __init__(self, parameters: MixtureParameters, structure: CovarianceStructure) -> None:
        self._mixture = (
            parameters.weights[0],
            parameters.means[0],
            parameters.precisions_cholesky[0],
        )
        self._structure = structure
        self._workspace = Workspace(parameters.means.dtype, parameters.means.device)

    def _chunks(self, rows: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Joint log-densities ``[K, n]`` of consecutive chunks of rows, and where they belong."""
        means = self._mixture[1]
        size = self._workspace.rows_per_chunk(3 * means.numel())
        for start in range(0, rows.shape[0], size):
            chunk = rows[start : start + size]
            x = chunk.T.to(means.device, means.dtype)
            yield (
                slice(start, start + chunk.shape[0]),
                self._structure.joint_log_densities(x, *self._mixture),
            )

    @torch.no_grad()
    def labels(self, rows: Tensor) -> Tensor:
        """Most probable component of each row: ``[N]``, int64."""
        result = torch.empty(rows.shape[0], dtype=torch.long, device=rows.device)
        for place, joint in self._chunks(rows):
            result[place] = joint.argmax(0)
        return result

    @torch.no_grad()
    def log_densities(self, rows: Tensor) -> Tensor:
        """Log p(x) of each row, in nats: ``[N]``."""
        result = torch.empty(rows.shape[0], dtype=rows.dtype, device=rows.device)
        for place, joint in self._chunks(rows):
            result[place] = joint.logsumexp(0)
        return result

    @torch.no_grad()
    def responsibilities(self, rows: Tensor) -> Tensor:
        """p(component | x): ``[N, K]``."""
        components = self._mixture[0].shape[0]
        result = torch.empty(rows.shape[0], components, dtype=rows.dtype, device=rows.device)
        for place, joint in self._chunks(rows):
            result[place] = joint.softmax(0).T
        return result
