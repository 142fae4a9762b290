"""The parameters of R Gaussian mixtures of the same sizes, as one value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from sklearn_torch_gmm.core.device import moved

Parameters = TypeVar("Parameters", bound="MixtureParameters")


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

    @property
    def log_weights(self) -> Tensor:
        """The log-weights ``[R, K]`` that the E-step adds to log N(x | μ_k, Σ_k)."""
        return self.weights.log()

    def tensors(self) -> list[Tensor]:
        """Return weights, means, covariances, factors and a subclass's fields, in this order."""
        # Not all attributes: a subclass may keep what it has computed from its fields.
        return [getattr(self, name) for name in self.__dataclass_fields__]

    def with_tensors(self: Parameters, tensors: Iterable[Tensor]) -> Parameters:
        """Return parameters of the same kind with the values that :meth:`tensors` is to return."""
        return type(self)(*tensors)

    def to_plain(self) -> list[Any]:
        """Return tensors and plain values that a checkpoint can hold."""
        return self.tensors()

    @classmethod
    def from_plain(cls: type[Parameters], plain: Sequence[Any]) -> Parameters:
        """Return the inverse of :meth:`to_plain`."""
        return cls(*plain)

    def select(self: Parameters, restarts: Tensor | Sequence[int]) -> Parameters:
        """Return the mixtures at these positions of the leading dimension."""
        index = torch.as_tensor(restarts, device=self.weights.device)
        return self.with_tensors(values[index] for values in self.tensors())

    def replace_at(self: Parameters, restarts: Sequence[int], others: Parameters) -> Parameters:
        """Put other mixtures at these positions of the leading dimension."""
        index = torch.as_tensor(restarts, device=self.weights.device)
        pairs = zip(self.tensors(), others.tensors(), strict=True)
        return self.with_tensors(own.index_copy(0, index, values) for own, values in pairs)

    def to(
        self: Parameters,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Parameters:
        """Return the same values on another device or in another floating-point type."""
        is_there = device is None or torch.device(device) == self.weights.device
        if is_there and (dtype is None or dtype == self.weights.dtype):
            return self
        return self.with_tensors(moved(values, device, dtype) for values in self.tensors())

    def split(self: Parameters) -> list[Parameters]:
        """Return each of the R mixtures, ``[1, ...]``, as views."""
        if self.weights.shape[0] == 1:
            return [self]
        parts = zip(*(values.split(1) for values in self.tensors()), strict=True)
        return [self.with_tensors(own) for own in parts]

    @staticmethod
    @cache
    def none() -> MixtureParameters:
        """Return an empty placeholder for parameters that are unknown or unavailable."""
        # Outside of a fit, nobody could use tensors of inference mode.
        with torch.inference_mode(mode=False):
            return MixtureParameters(*[torch.empty(0, device="cpu")] * 4)

    @staticmethod
    def stack(mixtures: Sequence[Parameters]) -> Parameters:
        """Join mixtures along the leading dimension; a single one is returned itself."""
        if len(mixtures) == 1:
            return mixtures[0]
        parts = zip(*(mixture.tensors() for mixture in mixtures), strict=True)
        return mixtures[0].with_tensors(map(torch.cat, parts))
