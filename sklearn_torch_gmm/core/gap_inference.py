"""Predictions for rows with gaps, by the marginal density of the values that they have."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sklearn_torch_gmm.core.cached_property import cached_property
from sklearn_torch_gmm.core.conditional import (
    Completed,
    Conditionals,
    IndependentConditionals,
    Patterns,
)
from sklearn_torch_gmm.core.gap_chunks import GapChunk, chunks_of
from sklearn_torch_gmm.core.gaps import (
    RowSplit,
    blocks_of,
    has_gaps,
    split_rows,
    without_gaps,
)
from sklearn_torch_gmm.core.inference import Inference, scale_of_squares

Noise = Callable[[int, int], tuple[Tensor, Tensor]]
"""``noise(n, D)`` returns uniform numbers ``[n]`` in [0, 1) and normal ones ``[n, D]``."""


@dataclass
class _Chunk(ABC):
    """Rows with gaps, in T lanes."""

    numbers: Tensor
    """``[T n]``"""
    conditionals: Any
    values: Tensor
    """The rows ``[T, D, n]`` with zeros for gaps."""
    observed: Tensor
    """1 for each value, 0 for each gap, ``[T, D, n]``."""

    @cached_property
    def completed(self) -> Completed:
        """The rows, completed by each component."""
        return self._complete(self.conditionals, self.values)

    def completed_far_out(self) -> Completed:
        """The same if squares overflow, with −d² in place of logits, in units of one's choice."""
        scale, largest = scale_of_squares(self.values.dtype), torch.finfo(self.values.dtype).max
        conditionals = self.conditionals.scaled(scale)
        residuals = self._complete(conditionals, scale * self.values).residuals
        distances = conditionals.squared_distances(residuals)
        return Completed(distances.neg_(), (residuals / scale).clamp_(-largest, largest))

    @abstractmethod
    def _complete(self, conditionals: Any, values: Tensor) -> Completed:
        """Complete rows by conditional distributions for the same gaps."""

    @abstractmethod
    def scatter(self, component: Tensor, noise: Tensor) -> Tensor:
        """Turn standard normal ``noise [T, D, n]`` into differences from the conditional means.

        The rows have the components ``[T, n]``. Differences at observed features are arbitrary.
        """


@dataclass
class _IndependentChunk(_Chunk):
    def _complete(self, conditionals: Any, values: Tensor) -> Completed:
        completed: Completed = conditionals.complete(values, self.observed)
        return completed

    def scatter(self, component: Tensor, noise: Tensor) -> Tensor:
        deviations: Tensor = self.conditionals.deviations
        return deviations[component].mT * noise


@dataclass
class _DependentChunk(_Chunk):
    own: GapChunk

    @cached_property
    def patterns(self) -> Patterns:
        patterns: Patterns = self.conditionals.of_patterns(self.own)
        return patterns

    def _complete(self, conditionals: Any, values: Tensor) -> Completed:
        completed: Completed = conditionals.complete(values, self.observed, self.own, self.patterns)
        return completed

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

    def have_values(self, rows: Tensor) -> Tensor:
        """Whether a row has any value: bool ``[N]``."""
        return torch.cat([~rows[place].isnan().all(1) for place in blocks_of(rows)])

    def completed(self, rows: Tensor) -> Tensor:
        """A copy of ``rows [N, D]`` with the expected values in place of the missing ones."""
        result = rows.clone()
        with self._arithmetic():
            for place in blocks_of(rows):
                for chunk in self._gaps(rows[place], split_rows(rows[place])):
                    logits, residuals = chunk.completed
                    torch.softmax(logits, -2, out=logits)
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
        torch.softmax(logits, -2, out=logits)
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
            for chunk in self._gaps(part, split, decides=not with_common_term):
                joint = chunk.completed.logits
                yield place.start + chunk.numbers, joint.to(rows.device)

    def _gaps(
        self, rows: Tensor, split: RowSplit | None, *, decides: bool = True
    ) -> Iterator[_Chunk]:
        """The rows with gaps, chunk by chunk, on the device of the mixture.

        If it ``decides``, each row without any density belongs to its nearest component.
        """
        if split is None:
            return
        independent = self._structure.has_independent_features
        for chunk in (self._independent if independent else self._dependent)(rows, split):
            logits = chunk.completed.logits
            # If the sum is finite, then so are all of its terms.
            if not math.isfinite(logits.sum().item()):
                # NaN comes from distances that are sums of infinities of both signs.
                logits.nan_to_num_(nan=-math.inf, neginf=-math.inf)
                if decides:
                    self._complete_far_rows_(chunk)
            yield chunk

    def _complete_far_rows_(self, chunk: _Chunk) -> None:
        """Assign each row without any density to its nearest component, which completes it."""
        logits, residuals = chunk.completed
        is_far = (logits.amax(1) == -math.inf).unsqueeze(1)
        if is_far.any():
            closeness, completed = chunk.completed_far_out()
            closeness[:, self._log_weights == -math.inf] = -math.inf
            is_nearest = closeness == closeness.amax(1, keepdim=True)
            decided = torch.where(is_nearest, 0.0, -math.inf).to(logits.dtype)
            logits.copy_(torch.where(is_far, decided, logits))
            residuals.copy_(torch.where(is_far.unsqueeze(1), completed, residuals))

    def _independent(self, rows: Tensor, split: RowSplit) -> Iterator[_Chunk]:
        for numbers in split.incomplete.split(
            self._workspace.rows_per_chunk(4 * self._means.numel())
        ):
            values = rows.index_select(0, numbers).T.to(self._means).unsqueeze(0)
            yield _IndependentChunk(numbers, self._of_independent, *without_gaps(values))

    def _dependent(self, rows: Tensor, split: RowSplit) -> Iterator[_Chunk]:
        for group in split.groups:
            size = group.missing.shape[0]
            values_per_row = 4 * self._means.numel() + 2 * len(self._log_weights) * size * size
            size = self._workspace.rows_per_chunk(values_per_row, least=1)
            for chunk in chunks_of(group, size, self._workspace.num_lanes):
                numbers, values = chunk.rows.flatten(), chunk.values_of(rows, self._means)
                own = chunk.to(self._means.device)
                yield _DependentChunk(numbers, self._of_dependent, *values, own)

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
