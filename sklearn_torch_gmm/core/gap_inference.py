"""Predictions for rows with gaps, by the marginal density of the values that they have."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sklearn_torch_gmm.core.conditional import (
    Completed,
    Conditionals,
    IndependentConditionals,
    Patterns,
)
from sklearn_torch_gmm.core.e_step import normalize_
from sklearn_torch_gmm.core.gap_chunks import GapChunk, chunks_of
from sklearn_torch_gmm.core.gaps import (
    RowSplit,
    blocks_of,
    has_gaps,
    split_rows,
    without_gaps,
)
from sklearn_torch_gmm.core.inference import Inference

Noise = Callable[[int, int], tuple[Tensor, Tensor]]
"""``noise(n, D)`` returns uniform numbers ``[n]`` in [0, 1) and normal ones ``[n, D]``."""


@dataclass(frozen=True)
class _Chunk(ABC):
    """Rows with gaps, completed by each component, in T lanes."""

    numbers: Tensor
    """``[T n]``"""
    completed: Completed

    @abstractmethod
    def scatter(self, component: Tensor, noise: Tensor) -> Tensor:
        """Turn standard normal ``noise [T, D, n]`` into differences from the conditional means.

        The rows have the components ``[T, n]``. Differences at observed features are arbitrary.
        """


@dataclass(frozen=True)
class _IndependentChunk(_Chunk):
    deviations: Tensor
    """Standard deviations ``[K, D]``."""

    def scatter(self, component: Tensor, noise: Tensor) -> Tensor:
        return self.deviations[component].mT * noise


@dataclass(frozen=True)
class _DependentChunk(_Chunk):
    own: GapChunk
    patterns: Patterns

    def scatter(self, component: Tensor, noise: Tensor) -> Tensor:
        # By pattern and row: [T, K or 1, c, c, n], then [T, n, c, c] of the components.
        covariances, own = self.patterns.covariances, self.own
        if own.padding is not None:
            # Definite again; the differences at observed features are arbitrary.
            ones = own.padding.to(covariances).mT.diag_embed()
            covariances = covariances + ones.movedim(1, -1).unsqueeze(1)
        covariances = own.by_row(covariances).movedim(-1, 1)
        if covariances.shape[2] == 1:
            component = torch.zeros_like(component)
        place = component[..., None, None, None].expand(-1, -1, 1, *covariances.shape[-2:])
        lower, _ = torch.linalg.cholesky_ex(covariances.gather(2, place).squeeze(2))
        place = own.missing_by_row
        drawn = (lower @ noise.gather(1, place).mT.unsqueeze(-1)).squeeze(-1).mT
        return torch.zeros_like(noise).scatter_(1, place, drawn)


class GapInference(Inference):
    """Labels, responsibilities and log-densities of rows in which NaN marks a missing value.

    A row without any value has the log-density 0, and the weights as responsibilities.
    """

    def completed(self, rows: Tensor) -> Tensor:
        """A copy of ``rows [N, D]`` with the expected values in place of the missing ones."""
        result = rows.clone()
        with self._arithmetic():
            for place in blocks_of(rows):
                for chunk in self._gaps(rows[place], split_rows(rows[place])):
                    logits, residuals = chunk.completed
                    normalize_(logits)
                    # Σ r (μ + residual); for observed values that is not used.
                    residuals += self._means.unsqueeze(-1)
                    values = (residuals * logits.unsqueeze(-2)).sum(-3)
                    _fill(result[place], chunk.numbers, values)
        return result

    def drawn(self, rows: Tensor, noise: Noise) -> Tensor:
        """A copy of ``rows [N, D]`` with draws from the conditional mixture of each row."""
        result = rows.clone()
        with self._arithmetic():
            for place in blocks_of(rows):
                # For each row, so that a draw does not depend on the gaps of other rows.
                uniform, normal = (values.to(self._means) for values in noise(*rows[place].shape))
                split = split_rows(rows[place])
                for chunk in self._gaps(rows[place], split):
                    own = chunk.numbers.to(self._means.device)
                    values = self._draw(chunk, uniform[own], normal[own])
                    _fill(result[place], chunk.numbers, values)
        return result

    def _draw(self, chunk: _Chunk, uniform: Tensor, normal: Tensor) -> Tensor:
        """Values ``[T, D, n]`` from numbers ``[T n]`` and ``[T n, D]`` of the rows."""
        logits, residuals = chunk.completed
        normalize_(logits)
        lanes, _, num_rows = logits.shape
        reached = logits.cumsum(1)
        # Rounding may leave the last sum below one.
        below = uniform.view(lanes, 1, num_rows) * reached[:, -1:]
        component = (reached < below).sum(1)
        place = component[:, None, None].expand(-1, 1, residuals.shape[2], -1)
        values = residuals.gather(1, place).squeeze(1) + self._means[component].mT
        return values + chunk.scatter(component, normal.unflatten(0, (lanes, num_rows)).mT)

    def _chunks(
        self, rows: Tensor, *, with_common_term: bool = False, exact: bool = False
    ) -> Iterator[tuple[slice | Tensor, Tensor]]:
        if not has_gaps(rows):
            yield from super()._chunks(rows, with_common_term=with_common_term, exact=exact)
            return
        for place in blocks_of(rows):
            part, split = rows[place], split_rows(rows[place])
            complete = torch.arange(len(part), device=rows.device)
            if split is not None:
                complete = split.complete
            found = super()._chunks(
                part.index_select(0, complete), with_common_term=with_common_term, exact=exact
            )
            for numbers, joint in found:
                yield place.start + complete[numbers], joint.to(rows.device)
            for chunk in self._gaps(part, split):
                joint = chunk.completed.logits
                # NaN comes from distances that are sums of infinities of both signs.
                joint = joint.nan_to_num(nan=-math.inf, neginf=-math.inf)
                yield place.start + chunk.numbers, joint.to(rows.device)

    def _gaps(self, rows: Tensor, split: RowSplit | None) -> Iterator[_Chunk]:
        """The rows with gaps, chunk by chunk, on the device of the mixture."""
        if split is None:
            return
        independent = self._structure.has_independent_features
        yield from (self._independent if independent else self._dependent)(rows, split)

    def _independent(self, rows: Tensor, split: RowSplit) -> Iterator[_Chunk]:
        conditionals = self._of_independent
        deviations = conditionals.variances.sqrt()
        for numbers in split.incomplete.split(
            self._workspace.rows_per_chunk(4 * self._means.numel())
        ):
            values = rows.index_select(0, numbers).T.to(self._means).unsqueeze(0)
            completed = conditionals.complete(*without_gaps(values))
            yield _IndependentChunk(numbers, completed, deviations)

    def _dependent(self, rows: Tensor, split: RowSplit) -> Iterator[_Chunk]:
        conditionals, components = self._of_dependent, len(self._log_weights)
        for group in split.groups:
            size = group.missing.shape[0]
            values_per_row = 4 * self._means.numel() + 2 * components * size * size
            size = self._workspace.rows_per_chunk(values_per_row, least=1)
            for chunk in chunks_of(group, size, self._workspace.num_lanes):
                values = chunk.values_of(rows, self._means)
                own = chunk.to(self._means.device)
                patterns = conditionals.of_patterns(own)
                completed = conditionals.complete(*values, own, patterns)
                yield _DependentChunk(chunk.rows.flatten(), completed, own, patterns)

    @cached_property
    def _of_independent(self) -> IndependentConditionals:
        return IndependentConditionals(
            self._log_weights, self._means, self._factors, self._structure
        )

    @cached_property
    def _of_dependent(self) -> Conditionals:
        return Conditionals(self._log_weights, self._means, self._factors, self._structure)


def _fill(rows: Tensor, numbers: Tensor, values: Tensor) -> None:
    """Write ``values [T, D, n]`` into the gaps of the rows with these ``numbers [T n]``."""
    own = rows.index_select(0, numbers)
    filled = values.mT.flatten(0, 1).to(own)
    rows.index_copy_(0, numbers, torch.where(own.isnan(), filled, own))
