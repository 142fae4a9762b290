"""Sufficient statistics as small objects that add up.

Chunks, batches, processes and nodes are all one sum. That is what makes EM exact in every one of
them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Moments:
    """Sums over rows x, relative to a centre c, under the responsibilities r of R mixtures.

    The centre is one point for all components, or each component's previous mean: the sums look
    the same.

    Attributes
    ----------
    sums : Tensor [R, K, 1 + P]
        Σ r (1, x − c, T₂(x − c)).
    log_likelihood : Tensor [R]
        Σ log p(x), in nats.
    scatter : Tensor [1 or R, D, D] or None
        Σ (x − c)(x − c)ᵀ where the components share it.
    """

    sums: Tensor
    log_likelihood: Tensor
    scatter: Tensor | None = None

    @property
    def counts(self) -> Tensor:
        """Σ r, the weight of each component in rows: ``[R, K]``."""
        return self.sums[..., 0]

    def first(self, num_features: int) -> Tensor:
        """Σ r (x − c): ``[R, K, D]``."""
        return self.sums[..., 1 : num_features + 1]

    def second(self, num_features: int) -> Tensor:
        """Σ r T₂(x − c): ``[R, K, Q]``."""
        return self.sums[..., num_features + 1 :]

    def __add__(self, other: Moments) -> Moments:
        scatter = self.scatter
        if scatter is not None and other.scatter is not None:
            scatter = scatter + other.scatter
        return Moments(self.sums + other.sums, self.log_likelihood + other.log_likelihood, scatter)

    def pack(self, *, with_scatter: bool) -> Tensor:
        """One vector of all sums, for one reduction over processes."""
        parts = [self.sums.flatten(), self.log_likelihood]
        if with_scatter and self.scatter is not None:
            parts.append(self.scatter.flatten())
        return torch.cat(parts)

    def unpack(self, packed: Tensor) -> Moments:
        """The inverse of :meth:`pack`; a scatter that was left out stays what it is here."""
        sizes = [self.sums.numel(), self.log_likelihood.numel()]
        sums, log_likelihood, scatter = packed.split([*sizes, packed.numel() - sum(sizes)])
        own = self.scatter
        if own is not None and scatter.numel() > 0:
            own = scatter.view_as(own)
        return Moments(sums.view_as(self.sums), log_likelihood, own)
