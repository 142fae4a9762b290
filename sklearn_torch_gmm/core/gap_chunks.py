"""Rows with gaps in chunks, each divided into lanes of as many rows, one for each thread.

As in the passes over complete rows, the lanes are a leading dimension of every operation. They have
patterns of their own, so that the small matrices of a lane stay with its thread, too.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from sklearn_torch_gmm.core.cached_property import cached_property
from sklearn_torch_gmm.core.covariance.base import LOG_2PI
from sklearn_torch_gmm.core.gaps import GapGroup, without_gaps
from sklearn_torch_gmm.core.workspace import LEAST_ROWS

KEPT_VALUES = 2**16
"""Number of values, D or c² for each row, up to which the chunks of a group are kept, with the rows
themselves, without asking for memory.

They take about 2 MiB. For few rows, finding them takes a fifth of the time that they do in an
iteration; with twice as many values that would be hardly any.
"""

BYTES_OF_FLOAT64 = 8

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class GapChunk:
    """Rows that lack the same number c of D values, in T lanes, in the order of their patterns."""

    rows: Tensor
    """Numbers ``[T, n]`` of the rows."""

    missing: Tensor
    """The features ``[T, c, p]`` that each of a lane's p patterns lacks, in ascending order."""

    pattern: Tensor
    """The pattern ``[T, n]`` of each row among those of its lane, ascending."""

    padding: Tensor | None
    """Bool ``[T, c, p]``: features in ``missing`` that a pattern does not lack."""

    num_features: int
    """D"""

    surplus: int
    """How many of the last rows only fill the last lanes: copies of the row before them."""

    has_own_patterns: bool
    """Whether the n rows of each lane have n patterns."""

    kept: dict[Hashable, Any] | None = None
    """The values of the rows as they were asked for last, if there is memory to keep them."""

    views: dict[Hashable, Tensor] = field(default_factory=dict)
    """Indices in the shapes in which they were needed, and what follows from them."""

    def values_of(self, rows: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Observed values of ``rows [N, D]`` by feature, ``[T, D, n]``, and what is observed.

        As :func:`~sklearn_torch_gmm.core.gaps.without_gaps` returns them, in the type and on the
        device of another tensor.
        """

        def find() -> tuple[Tensor, Tensor]:
            own = rows.index_select(0, self.rows.flatten()).unflatten(0, self.rows.shape)
            return without_gaps(own.mT.to(like).contiguous())

        return self._remember(("values", like.dtype), find)

    def deviations_of(self, rows: Tensor, centre: Tensor) -> Tensor:
        """The rows by feature about a ``centre [D]``, zero for gaps: ``[T, D, n]``.

        The centre is the same in all passes that share the chunks.
        """

        def find() -> Tensor:
            values, observed = self.values_of(rows, centre)
            return torch.addcmul(values, centre.unsqueeze(-1), observed, value=-1.0)

        return self._remember(("deviations", centre.dtype), find)

    def _remember(self, key: Hashable, find: Callable[[], _Found]) -> _Found:
        """The value kept under a key, or else the one found, which is kept if there is memory."""
        if self.kept is None:
            return find()
        if key not in self.kept:
            found = find()
            # In place of anything else: there is room for one of them.
            self.kept.clear()
            self.kept[key] = found
        known: _Found = self.kept[key]
        return known

    @cached_property
    def missing_by_row(self) -> Tensor:
        """The features ``[T, c, n]`` that each row lacks."""
        return self.by_row(self.missing)

    @cached_property
    def _features(self) -> Tensor:
        return self.missing.flatten(1)

    @cached_property
    def is_outside(self) -> Tensor | None:
        """Bool ``[T, c, c, p]``: elements of the blocks that belong to no gap; None if all do."""
        padding = self.padding
        return None if padding is None else padding.unsqueeze(1) | padding.unsqueeze(2)

    @cached_property
    def places(self) -> Tensor:
        """Places ``[T, c² p]`` of the blocks of missing features in matrices ``[D²]``."""
        rows, columns = self.missing.unsqueeze(2), self.missing.unsqueeze(1)
        return (rows * self.num_features + columns).flatten(1)

    @cached_property
    def counts(self) -> Tensor:
        """The number of values that each pattern lacks, ``[T, p]``, or ``[1, 1]`` if it is c."""
        if self.padding is None:
            return self.pattern.new_tensor([[self.missing.shape[1]]])
        return self.padding.logical_not().sum(1)

    def to(self, device: torch.device) -> GapChunk:
        """The same on another device."""
        if self.rows.device == device:
            return self
        rows, missing, pattern = (
            values.to(device) for values in (self.rows, self.missing, self.pattern)
        )
        padding = None if self.padding is None else self.padding.to(device)
        return replace(self, rows=rows, missing=missing, pattern=pattern, padding=padding, views={})

    def gaps(self, like: Tensor) -> Tensor:
        """1 for each value ``[T, D, n]`` that a row lacks, and 0 for the others."""
        key = "gaps", like.dtype
        if key not in self.views:
            lanes, num_rows = self.rows.shape
            found = like.new_zeros(lanes, self.num_features, num_rows)
            if self.padding is None:
                found.scatter_(1, self.missing_by_row, 1.0)
            else:
                is_missing = self.padding.logical_not().to(found.dtype)
                found.scatter_(1, self.missing_by_row, self.by_row(is_missing))
            self.views[key] = found
        return self.views[key]

    @property
    def lacks_one(self) -> bool:
        """Whether each row lacks one value."""
        return self.missing.shape[1] == 1

    @property
    def lacks_all(self) -> bool:
        """Whether the rows have no value at all; there is one such pattern."""
        return self.missing.shape[1] == self.num_features and self.padding is None

    def by_row(self, values: Tensor) -> Tensor:
        """Repeat ``values [T, ..., p]`` of the patterns for their rows: ``[T, ..., n]``."""
        if self.has_own_patterns:
            return values
        return values.gather(-1, self._index("pattern", self.pattern, values))

    def by_pattern(self, values: Tensor) -> Tensor:
        """Sum ``values [T, ..., n]`` of the rows over each pattern: ``[T, ..., p]``."""
        if self.has_own_patterns:
            return values
        sums = values.new_zeros(*values.shape[:-1], self.missing.shape[-1])
        return sums.scatter_add_(-1, self._index("pattern", self.pattern, values), values)

    def at_missing(self, values: Tensor) -> Tensor:
        """``values [T, ..., D]`` at the missing features, ``[T, ..., c, p]``."""
        _, *sizes = self.missing.shape
        index = self._index("missing", self._features, values)
        return values.gather(-1, index).view(*values.shape[:-1], *sizes)

    def add_at_missing(self, sums: Tensor, values: Tensor) -> None:
        """Add ``values [T, ..., c, p]`` to ``sums [T, ..., D]`` at the missing features."""
        index = self._index("missing", self._features, sums)
        sums.scatter_add_(-1, index, values.flatten(-2))

    def at_places(self, values: Tensor) -> Tensor:
        """``values [T, ..., D²]`` at the blocks of missing features, ``[T, ..., c, c, p]``."""
        _, size, width = self.missing.shape
        found = values.gather(-1, self._index("places", self.places, values))
        return found.view(*values.shape[:-1], size, size, width)

    def add_at_places(self, sums: Tensor, values: Tensor) -> None:
        """Add ``values [T, ..., c, c, p]`` to ``sums [T, ..., D²]`` at the blocks."""
        sums.scatter_add_(-1, self._index("places", self.places, sums), values.flatten(-3))

    def _index(self, name: str, index: Tensor, values: Tensor) -> Tensor:
        """The same ``index [T, n]`` for all axes of ``values [T, ..., p]`` between.

        A gather along them takes a third of the time of ``index_select``.
        """
        key = name, values.shape[:-1]
        if key not in self.views:
            expanded = among(index, values.ndim - 2).expand(*values.shape[:-1], -1)
            self.views[key] = expanded
        return self.views[key]

    def log_volumes(self, like: Tensor) -> Tensor | float:
        """c log 2π for each pattern, ``[T, 1, 1, p]``, or a number if it is the same for all."""
        if self.padding is None:
            return self.missing.shape[1] * LOG_2PI
        return among(self.counts.to(like) * LOG_2PI, 2)

    def weights(self, sample_weight: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """Weights ``[T, n]`` of the rows, zero for copies, from those of all rows."""
        if sample_weight is not None:
            weights = sample_weight[self.rows].to(dtype)
        elif self.surplus:
            weights = self.rows.new_ones(self.rows.shape, dtype=dtype)
        else:
            return None
        if self.surplus:
            weights.view(-1)[-self.surplus :] = 0.0
        return weights


def chunks_of(
    group: GapGroup,
    size: int,
    num_lanes: int = 1,
    may_copy: Callable[[int], bool] = lambda num_bytes: False,
) -> Iterator[GapChunk]:
    """The rows of a group in chunks of about ``size`` rows, with up to ``num_lanes`` lanes each.

    ``may_copy(num_bytes)`` tells whether copies of many rows may be kept for the next time.
    """
    num_rows, way = len(group.rows), (min(size, len(group.rows)), num_lanes)
    if way not in group.kept:
        size_of_gap, patterns = group.missing.shape
        is_small = num_rows * max(group.num_features, size_of_gap * size_of_gap) <= KEPT_VALUES
        # The rows, what is observed or missing, and indices.
        values = num_rows * (2 * group.num_features + 2 * size_of_gap + 1)
        values += 2 * patterns * size_of_gap * size_of_gap
        group.kept[way] = None
        if is_small or may_copy(BYTES_OF_FLOAT64 * values):
            group.kept[way] = [replace(chunk, kept={}) for chunk in _divided(group, *way)]
    known = group.kept[way]
    yield from _divided(group, *way) if known is None else known


def _divided(group: GapGroup, size: int, num_lanes: int) -> Iterator[GapChunk]:
    for start in range(0, len(group.rows), size):
        rows, pattern = (values[start : start + size] for values in (group.rows, group.pattern))
        lanes = max(1, min(num_lanes, len(rows) // LEAST_ROWS))
        surplus = -len(rows) % lanes
        if surplus:
            rows, pattern = (
                torch.cat([values, values[-1:].expand(surplus)]) for values in (rows, pattern)
            )
        rows, pattern = rows.view(lanes, -1), pattern.view(lanes, -1)
        # Not `pattern[:, [0, -1]]`, whose index would be sent to a device first.
        bounds = torch.stack([pattern[:, 0], pattern[:, -1]], dim=1).tolist()
        widths = [last - first + 1 for first, last in bounds]
        width = max(widths)
        # All lanes have as many patterns, some of them perhaps patterns of no row.
        firsts = [min(first, group.missing.shape[1] - width) for first, _ in bounds]
        yield GapChunk(
            rows,
            _stacked(group.missing, firsts, width),
            pattern - pattern.new_tensor(firsts).unsqueeze(1),
            None if group.padding is None else _stacked(group.padding, firsts, width),
            group.num_features,
            surplus,
            min(widths) == rows.shape[1],
        )


def _stacked(values: Tensor, firsts: list[int], width: int) -> Tensor:
    """Columns of ``values [c, p]`` from each of the ``firsts`` on, ``[T, c, width]``."""
    parts = [values[:, first : first + width] for first in firsts]
    return parts[0].unsqueeze(0) if len(parts) == 1 else torch.stack(parts)


def among(values: Tensor, num_axes: int) -> Tensor:
    """``values [T, ...]`` with so many more axes after the first, for mixtures and components."""
    return values.view(values.shape[0], *[1] * num_axes, *values.shape[1:])
