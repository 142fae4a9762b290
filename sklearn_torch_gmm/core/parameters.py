"""The parameters of R Gaussian mixtures that share their shapes, as one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class MixtureParameters:
    """Parameters of R mixtures with K components of D features.

    Attributes
    ----------
    weights : Tensor [R, K]
        Component probabilities.
    means : Tensor [R, K, D]
    covariances : Tensor [R, ...]
        In the shape of the covariance structure.
    precisions_cholesky : Tensor [R, ...]
        Upper-triangular factors U of the precisions U Uᵀ, in the shape of the covariances.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor
    precisions_cholesky: Tensor

    def tensors(self) -> list[Tensor]:
        """Weights, means, covariances and factors, in this order."""
        return [getattr(self, f.name) for f in fields(self)]

    def select(self, restarts: Tensor | Sequence[int]) -> MixtureParameters:
        """The mixtures at these positions of the leading dimension."""
        index = torch.as_tensor(restarts, device=self.weights.device)
        return MixtureParameters(*(getattr(self, f.name)[index] for f in fields(self)))

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> MixtureParameters:
        """The same values elsewhere, or in another floating-point type."""
        if device == self.weights.device and dtype == self.weights.dtype:
            return self
        return MixtureParameters(
            *(getattr(self, f.name).to(device=device, dtype=dtype) for f in fields(self))
        )

    @staticmethod
    def none() -> MixtureParameters:
        """Those of a mixture that there is not."""
        return MixtureParameters(*(torch.empty(0) for _ in fields(MixtureParameters)))

    @staticmethod
    def stack(mixtures: Sequence[MixtureParameters]) -> MixtureParameters:
        """Join mixtures along the leading dimension."""
        return MixtureParameters(
            *(torch.cat([getattr(m, f.name) for m in mixtures]) for f in fields(MixtureParameters))
        )
