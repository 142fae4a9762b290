"""Mixtures as vectors of real numbers, such that every vector is a mixture.

The coordinates are the logarithms of the weights, the means in units of the data's standard
deviations, and the log-Cholesky coordinates of the precisions: triangular factors with logarithms
on their diagonals. Changing the units of the features adds the same vector to the coordinates of
all mixtures, and leaves the difference of two of them unchanged.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sklearn_torch_gmm.core.covariance import CovarianceStructure
from sklearn_torch_gmm.core.m_step import total_variances
from sklearn_torch_gmm.core.parameters import MixtureParameters


class Coordinates:
    """The map between R mixtures and their coordinates ``[R, C]``.

    Parameters
    ----------
    structure : CovarianceStructure
    reference : MixtureParameters
        Mixtures of the same sizes, whose total variances define the units of the features.
    """

    def __init__(self, structure: CovarianceStructure, reference: MixtureParameters) -> None:
        self._structure = structure
        self._reference = reference
        weights, means, covariances, _ = reference.tensors()
        variances = structure.variances(covariances, *means.shape[-2:])
        self._scale = total_variances(weights, means, variances).sqrt()

    def of(self, parameters: MixtureParameters) -> Tensor:
        """Return the coordinates ``[R, C]`` of mixtures.

        A weight of zero has the coordinate of the smallest positive number, since its own logarithm
        is not finite.
        """
        weights, means, _, factors = parameters.tensors()
        log_weights = weights.clamp_min(torch.finfo(weights.dtype).tiny).log()
        log_factors = self._structure.log_cholesky(factors, self._scale.squeeze(-2))
        parts = (log_weights, means / self._scale, log_factors)
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def mixtures(self, coordinates: Tensor) -> tuple[MixtureParameters, Tensor]:
        """Return the mixtures at ``coordinates [R, C]``, and a bool mask ``[R, K]`` of usable ones.

        The parameters of a component outside the mask are meaningless.
        """
        structure, scale = self._structure, self._scale
        weights, means, _, factors = self._reference.tensors()
        sizes = [part[0].numel() for part in (weights, means, factors)]
        log_weights, scaled, log_factors = coordinates.split(sizes, dim=1)
        new_weights = log_weights.softmax(-1)
        new_means = scaled.view_as(means) * scale
        new_factors = structure.from_log_cholesky(log_factors.view_as(factors), scale.squeeze(-2))
        covariances = structure.covariances(new_factors)
        # An M-step computes its factors in the same way, so their precision and tests are equal.
        new_factors, usable = structure.precisions_cholesky(covariances, weights.shape[-1])
        usable = usable & new_means.isfinite().all(-1) & new_weights.isfinite()
        return MixtureParameters(new_weights, new_means, covariances, new_factors), usable
