"""Rows with gaps in chunks, each divided into lanes of as many rows, one for each thread.

As in the passes over complete rows, the lanes are a leading dimension of every operation. They have
patterns of their own, so that the small matrices of a lane stay with its thread, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sklearn_torch_gmm.core.gaps import GapGroup
from sklearn_torch_gmm.core.workspace import LEAST_ROWS


@dataclass(frozen=True)
class GapChunk:
    """Rows that lack the same number c of values, in T lanes, in the order of their patterns."""

    rows: Tensor
    """Numbers ``[T, n]`` of the rows."""

    missing: Tensor
    """The features ``[T, c, p]`` that each of a lane's p patterns lacks, in ascending order."""

    pattern: Tensor
    """The pattern ``[T, n]`` of each row among those of its lane, ascending."""

    padding: Tensor | None
    """Bool ``[T, c, p]``: features in ``missing`` that a pattern does not lack."""

    surplus: int
    """How many of the last rows only fill the last lanes: copies of the row before them."""

    has_own_patterns: bool
    """Whether the n rows of each lane have n patterns."""

    @property
    def counts(self) -> Tensor:
        """The number of values that each pattern lacks, ``[T, p]``, or ``[1, 1]`` if it is c."""
        if self.padding is None:
            return self.pattern.new_tensor([[self.missing.shape[1]]])
        return self.padding.logical_not().sum(1)

    def to(self, device: torch.device) -> GapChunk:
        """The same on another device."""
        rows, missing, pattern = (
            values.to(device) for values in (self.rows, self.missing, self.pattern)
        )
        padding = None if self.padding is None else self.padding.to(device)
        return GapChunk(rows, missing, pattern, padding, self.surplus, self.has_own_patterns)

    def by_row(self, values: Tensor) -> Tensor:
        """Repeat ``values [T, ..., p]`` of the patterns for their rows: ``[T, ..., n]``."""
        return values if self.has_own_patterns else gather_last(values, self.pattern)

    def by_pattern(self, values: Tensor) -> Tensor:
        """Sum ``values [T, ..., n]`` of the rows over each pattern: ``[T, ..., p]``."""
        if self.has_own_patterns:
            return values
        sums = values.new_zeros(*values.shape[:-1], self.missing.shape[-1])
        add_last(sums, self.pattern, values)
        return sums

    def weights(self, sample_weight: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """Weights ``[T, n]`` of the rows, zero for copies, from those of all rows."""
        if self.surplus == 0:
            return None if sample_weight is None else sample_weight[self.rows]
        if sample_weight is None:
            weights = self.rows.new_ones(self.rows.shape, dtype=dtype)
        else:
            weights = sample_weight[self.rows]
        weights.flatten()[-self.surplus :] = 0.0
        return weights


def chunks_of(group: GapGroup, size: int, num_lanes: int = 1) -> Iterator[GapChunk]:
    """The rows of a group in chunks of about ``size`` rows, with up to ``num_lanes`` lanes each."""
    for start in range(0, len(group.rows), size):
        rows, pattern = (values[start : start + size] for values in (group.rows, group.pattern))
        lanes = max(1, min(num_lanes, len(rows) // LEAST_ROWS))
        surplus = -len(rows) % lanes
        if surplus:
            rows, pattern = (
                torch.cat([values, values[-1:].expand(surplus)]) for values in (rows, pattern)
            )
        rows, pattern = rows.view(lanes, -1), pattern.view(lanes, -1)
        bounds = pattern[:, [0, -1]].tolist()
        widths = [last - first + 1 for first, last in bounds]
        width = max(widths)
        # The lanes have as many patterns, those of some also such that none of their rows has.
        firsts = [min(first, group.missing.shape[1] - width) for first, _ in bounds]
        if lanes > 1:
            pattern = pattern - pattern.new_tensor(firsts).unsqueeze(1)
        else:
            pattern = pattern - firsts[0]
        yield GapChunk(
            rows,
            _stacked(group.missing, firsts, width),
            pattern,
            None if group.padding is None else _stacked(group.padding, firsts, width),
            surplus,
            min(widths) == rows.shape[1],
        )


def _stacked(values: Tensor, firsts: list[int], width: int) -> Tensor:
    """Columns of ``values [c, p]`` from each of the ``firsts`` on, ``[T, c, width]``."""
    parts = [values[:, first : first + width] for first in firsts]
    return parts[0].unsqueeze(0) if len(parts) == 1 else torch.stack(parts)


def among(values: Tensor, num_axes: int) -> Tensor:
    """``values [T, ...]`` with so many more axes after the first, for mixtures and components."""
    return values.view(len(values), *[1] * num_axes, *values.shape[1:])


def gather_last(values: Tensor, index: Tensor) -> Tensor:
    """``values [T, ..., p]`` at the places ``index [T, n]``, ``[T, ..., n]``.

    It takes a third of the time of ``index_select``.
    """
    return values.gather(-1, _expanded(index, values))


def add_last(sums: Tensor, index: Tensor, values: Tensor) -> None:
    """Add ``values [T, ..., n]`` to ``sums [T, ..., p]`` at the places ``index [T, n]``."""
    sums.scatter_add_(-1, _expanded(index, values), values)


def _expanded(index: Tensor, values: Tensor) -> Tensor:
    """The same ``index [T, n]`` for all axes of ``values [T, ..., p]`` between: ``[T, ..., n]``."""
    return among(index, values.ndim - 2).expand(*values.shape[:-1], -1)


def places_of_blocks(missing: Tensor, num_features: int) -> Tensor:
    """Places ``[T, c² p]`` of the blocks of features ``missing [T, c, p]`` in matrices ``[D²]``."""
    return (missing.unsqueeze(2) * num_features + missing.unsqueeze(1)).flatten(1)
