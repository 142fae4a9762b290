"""The parameters of R Gaussian mixtures of the same sizes, as one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class MixtureParameters:
    """Parameters of R mixtures with K components of D features."""

    weights: Tensor
    """Component probabilities ``[R, K]``."""

    means: Tensor
    """``[R, K, D]``"""

    covariances: Tensor
    """``[R, ...]`` in the shape of the covariance structure."""

    precisions_cholesky: Tensor
    """Upper-triangular factors U of the precisions U Uᵀ, in the shape of the covariances."""

    def tensors(self) -> list[Tensor]:
        """Weights, means, covariances and factors, in this order."""
        # The fields of a dataclass are its only attributes, in the order of their definition.
        return list(vars(self).values())

    def select(self, restarts: Tensor | Sequence[int]) -> MixtureParameters:
        """The mixtures at these positions of the leading dimension."""
        index = torch.as_tensor(restarts, device=self.weights.device)
        return MixtureParameters(*(values[index] for values in self.tensors()))

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> MixtureParameters:
        """The same values on another device or in another floating-point type."""
        if device == self.weights.device and dtype == self.weights.dtype:
            return self
        return MixtureParameters(*(values.to(device, dtype) for values in self.tensors()))

    @staticmethod
    def none() -> MixtureParameters:
        """The parameters of no mixture, where those of some are not known or not to be had."""
        return MixtureParameters(*(torch.empty(0) for _ in range(4)))

    @staticmethod
    def stack(mixtures: Sequence[MixtureParameters]) -> MixtureParameters:
        """Join mixtures along the leading dimension."""
        parts = zip(*(mixture.tensors() for mixture in mixtures), strict=True)
        return MixtureParameters(*map(torch.cat, parts))
