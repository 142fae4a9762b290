"""Log-densities and moments of some components by the products of the fast E-step."""

from __future__ import annotations

import torch
from torch import Tensor

from sklearn_torch_gmm.core.ways import Chunk, Selection, Way
from sklearn_torch_gmm.core.workspace import Workspace


class Products(Way):
    """Logits η T(x − c) for the components ``estimated``, and sums R T(x − c)ᵀ for ``summed``.

    ``natural [R K, 1 + P]`` are the natural parameters of all components about the centre c.
    """

    def __init__(
        self, natural: Tensor, estimated: Selection, summed: Selection, workspace: Workspace
    ) -> None:
        self._natural = estimated.of(natural)
        self._length = natural.shape[1]
        self._estimated = estimated
        self._summed = summed
        self._workspace = workspace
        self._sums: Tensor | None = None

    @property
    def scratch_per_row(self) -> int:
        return 0 if self._estimated.is_all else self._estimated.size

    def write_log_densities(self, chunk: Chunk, logits: Tensor, scratch: Tensor) -> None:
        if not self._estimated.size:
            return
        lanes = len(logits)
        moments = chunk.features[:, : self._length]
        own = logits if self._estimated.is_all else scratch
        torch.bmm(self._natural.expand(lanes, -1, -1), moments, out=own)
        if not self._estimated.is_all:
            self._estimated.put(own, logits, 1)

    def add_moments(self, chunk: Chunk, responsibilities: Tensor) -> None:
        if not self._summed.size:
            return
        lanes, height, _ = chunk.features.shape
        if self._sums is None:
            self._sums = self._workspace.take_sums(lanes, self._summed.size, height)
        own = self._summed.of(responsibilities, 1)
        self._workspace.add_product(self._sums[:lanes], own, chunk.features)

    def finish(self, sums: Tensor) -> None:
        if self._sums is not None:
            self._summed.add(self._sums[..., : self._length].sum(0), sums)
            self._sums = None
