"""Sufficient statistics as sums over rows.

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

    The centre is one point for all components, or one for each, such as its previous mean: the sums
    look the same.

    Attributes
    ----------
    sums : Tensor [R, K, 1 + P]
        Σ r (1, x − c, T₂(x − c)).
    log_likelihood : Tensor [R]
        Σ log p(x), in nats.
    scatter : Tensor [1 or R, D, D] or None
        Σ (x − c)(x − c)ᵀ over all components, where it is pooled.
    certainty : Tensor [R] or None
        Σ log max_k r_k, in nats: zero where each row surely belongs to one component.
    """

    sums: Tensor
    log_likelihood: Tensor
    scatter: Tensor | None = None
    certainty: Tensor | None = None

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

    def pack(self, *, with_scatter: bool) -> Tensor:
        """One vector of all sums, for one reduction over processes."""
        return torch.cat([part.flatten() for part in self._parts(with_scatter)])

    def unpack(self, packed: Tensor) -> Moments:
        """The inverse of :meth:`pack`; a scatter that was left out stays what it is here."""
        with_scatter = packed.numel() > sum(part.numel() for part in self._parts(False))
        own = self._parts(with_scatter)
        parts = packed.split([part.numel() for part in own])
        sums, log_likelihood, *others = (
            part.view_as(like) for part, like in zip(parts, own, strict=True)
        )
        scatter = others.pop() if with_scatter else self.scatter
        return Moments(sums, log_likelihood, scatter, *others)

    def _parts(self, with_scatter: bool) -> list[Tensor]:
        parts = [self.sums, self.log_likelihood, self.certainty]
        if with_scatter:
            parts.append(self.scatter)
        return [part for part in parts if part is not None]
