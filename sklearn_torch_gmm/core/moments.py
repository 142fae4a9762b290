"""Sufficient statistics as sums over rows.

Chunks, batches, processes and nodes contribute to the same sums, so EM is exact for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sklearn_torch_gmm.core.cached_property import cached_property


@dataclass
class Moments:
    """Sums over rows x relative to a centre c, under the responsibilities r of R mixtures.

    The centre is either one point for all components or one point for each, such as its previous
    mean; the sums have the same form.
    """

    sums: Tensor
    """Σ r (1, x − c, T₂(x − c)): ``[R, K, 1 + P]``."""

    log_likelihood: Tensor
    """Σ log p(x), in nats: ``[R]``."""

    scatter: Tensor | None = None
    """Σ (x − c)(x − c)ᵀ over all components, if it is pooled: ``[1 or R, D, D]``."""

    certainty: Tensor | None = None
    """Σ log max_k r_k, in nats: ``[R]``, zero if each row certainly belongs to one component."""

    entropy: Tensor | None = None
    """−Σ r log r over rows and components, in nats: ``[R]``."""

    gap_scatter: Tensor | None = None
    """Σ r E[(x − c)(x − c)ᵀ] ``[R, D, D]`` of the rows with gaps, given their values, if it is
    pooled. Unlike the scatter of the complete rows, it changes with the parameters."""

    @property
    def total_scatter(self) -> Tensor | None:
        """Return the pooled scatter of all rows, complete or not."""
        if self.scatter is None or self.gap_scatter is None:
            return self.scatter
        return self.scatter + self.gap_scatter

    @cached_property
    def counts(self) -> Tensor:
        """Σ r, the total weight of each component: ``[R, K]``, a view of the sums."""
        return self.sums[..., 0]

    @cached_property
    def total(self) -> Tensor:
        """Σ r over all components, the weight of the rows: ``[R]``, once all have been added."""
        return self.counts.sum(-1)

    def first(self, num_features: int) -> Tensor:
        """Σ r (x − c): ``[R, K, D]``."""
        return self.sums[..., 1 : num_features + 1]

    def second(self, num_features: int) -> Tensor:
        """Σ r T₂(x − c): ``[R, K, Q]``."""
        return self.sums[..., num_features + 1 :]

    def of(self, components: slice) -> Moments:
        """Return a view of the sums of some components, with the scatter of all."""
        return Moments(self.sums[:, components], self.log_likelihood, self.scatter)

    def pack(self, *, with_scatter: bool) -> Tensor:
        """Return all sums as one vector, so that one reduction over the processes is sufficient."""
        return torch.cat([part.flatten() for part in self._parts(with_scatter)])

    def unpack(self, packed: Tensor) -> Moments:
        """Return the inverse of :meth:`pack`; a scatter that is not packed is that of ``self``."""
        with_scatter = packed.numel() > sum(part.numel() for part in self._parts(False))
        own = self._parts(with_scatter)
        parts = packed.split([part.numel() for part in own])
        sums, log_likelihood, *others = (
            part.view_as(like) for part, like in zip(parts, own, strict=True)
        )
        scatter = others.pop() if with_scatter else self.scatter
        optional = ("certainty", "entropy", "gap_scatter")
        names = [name for name in optional if getattr(self, name) is not None]
        return Moments(sums, log_likelihood, scatter, **dict(zip(names, others, strict=True)))

    def _parts(self, with_scatter: bool) -> list[Tensor]:
        parts = [self.sums, self.log_likelihood, self.certainty, self.entropy, self.gap_scatter]
        if with_scatter:
            parts.append(self.scatter)
        return [part for part in parts if part is not None]
