"""Rows with gaps: which rows lack a value, and which features each of them lacks.

NaN marks a value that was not observed. Rows are grouped by the number of values that they lack,
so that their small matrices have one size, whatever the number of patterns.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

BLOCK_BYTES = 2**23
"""Bytes of rows that are looked at, or copied, together: their mask and their copy are small
compared with the rows. Twice as many take twice that memory."""

FEW_ROWS_OF_A_GROUP = 256
"""Rows up to which groups that lack different numbers of values are joined: the operations on a
group take longer than the arithmetic on so few rows. With half the value, an iteration for [20k,
10] → 8 with tied covariances and 10 % of the values missing would take a tenth more time; with
twice the value, no less."""

CODED_ROWS = 2**16
"""Rows whose patterns become numbers together, which takes at most 31 MiB; twice as many, twice."""

BITS_OF_CODE = 62
"""Features whose mask fits into one int64; more features take several codes."""


def has_gaps(rows: Tensor) -> bool:
    """Whether any value of ``rows [N, D]`` is NaN."""
    return any(bool(rows[place].isnan().any()) for place in blocks_of(rows))


def blocks_of(rows: Tensor) -> Iterator[slice]:
    """Slices of consecutive rows of at most :data:`BLOCK_BYTES`."""
    size = max(1, BLOCK_BYTES // max(1, rows.shape[1] * rows.itemsize))
    for start in range(0, rows.shape[0], size):
        yield slice(start, min(start + size, rows.shape[0]))


def without_gaps(x: Tensor) -> tuple[Tensor, Tensor]:
    """``x`` with zeros in place of NaN, and what is observed: 1 for each value, 0 for each gap."""
    # Only NaN differs from itself.
    observed = torch.eq(x, x, out=torch.empty_like(x))
    return x.nan_to_num(0.0, math.inf, -math.inf), observed


@dataclass(frozen=True)
class GapGroup:
    """Rows that lack the same number c of values, in the order of their patterns.

    Few rows may lack less than c; then ``padding`` says which of the features are not missing.
    """

    rows: Tensor
    """Numbers ``[n]`` of the rows."""

    missing: Tensor
    """The features ``[c, p]`` that each of p patterns lacks, in ascending order."""

    pattern: Tensor
    """The pattern ``[n]`` of each row, ascending."""

    num_features: int
    """D, with those that are observed."""

    padding: Tensor | None = None
    """Bool ``[c, p]``: features in ``missing`` that the pattern does not lack, after the others."""

    kept: dict[Hashable, Any] = field(default_factory=dict)
    """Values found once for each way to divide the group into chunks."""


class RowSplit:
    """The complete rows of a batch, and the others in groups.

    Parameters
    ----------
    complete, incomplete : Tensor [n]
        Numbers of the rows without and with gaps, ascending.
    mask : Tensor [n, D]
        Bool, the values that the incomplete rows lack.
    """

    def __init__(self, complete: Tensor, incomplete: Tensor, mask: Tensor) -> None:
        self.complete = complete
        self.incomplete = incomplete
        self._mask: Tensor | None = mask
        self._groups: list[GapGroup] | None = None

    @property
    def groups(self) -> list[GapGroup]:
        """The incomplete rows, by the number of values that they lack; found when first needed."""
        if self._groups is None:
            assert self._mask is not None
            self._groups = list(_groups(self.incomplete, self._mask))
            self._mask = None
        return self._groups


def split_rows(rows: Tensor) -> RowSplit | None:
    """Split ``rows [N, D]`` by their gaps; None if all rows are complete."""
    masks, numbers = [], []
    for place in blocks_of(rows):
        mask = rows[place].isnan()
        lacking = mask.any(1).nonzero().squeeze(1)
        masks.append(mask[lacking])
        numbers.append(lacking + place.start)
    incomplete = torch.cat(numbers) if numbers else rows.new_empty(0, dtype=torch.long)
    if len(incomplete) == 0:
        return None
    is_complete = rows.new_ones(rows.shape[0], dtype=torch.bool)
    is_complete[incomplete] = False
    return RowSplit(is_complete.nonzero().squeeze(1), incomplete, torch.cat(masks))


def _groups(numbers: Tensor, mask: Tensor) -> Iterator[GapGroup]:
    """Groups of the rows ``numbers [n]``, which lack the values in ``mask [n, D]``."""
    counts = mask.sum(1)
    for first, last in _ranges(counts, mask.shape[1]):
        own = ((counts >= first) & (counts <= last)).nonzero().squeeze(1)
        lacking = mask[own]
        codes = _codes(lacking)
        order = codes.argsort(stable=True)
        _, pattern, sizes = codes[order].unique_consecutive(return_inverse=True, return_counts=True)
        patterns = lacking[order[sizes.cumsum(0) - sizes]]
        # The gaps first, then as many other features as there is room for.
        missing = patterns.byte().sort(dim=1, descending=True, stable=True).indices[:, :last]
        padding = None if first == last else ~patterns.gather(1, missing).T
        yield GapGroup(numbers[own[order]], missing.T.contiguous(), pattern, mask.shape[1], padding)


def _ranges(counts: Tensor, num_features: int) -> Iterator[tuple[int, int]]:
    """Ranges of the ``counts [n]`` of missing values that share a group, ends included.

    Rows without any value, which need no arithmetic, stay apart.
    """
    values, sizes = (part.tolist() for part in counts.unique(return_counts=True))
    first, last, total = values[0], values[0], sizes[0]
    for value, size in zip(values[1:], sizes[1:], strict=True):
        total += size
        if total > FEW_ROWS_OF_A_GROUP or value == num_features:
            yield first, last
            first, total = value, size
        last = value
    yield first, last


def _codes(mask: Tensor) -> Tensor:
    """One int64 ``[n]`` for each row of ``mask [n, D]``, equal for equal rows only."""
    codes = mask.new_zeros(mask.shape[0], dtype=torch.long)
    for start in range(0, mask.shape[1], BITS_OF_CODE):
        part = mask[:, start : start + BITS_OF_CODE]
        bits = 2 ** torch.arange(part.shape[1], device=mask.device)
        # In parts: the products take eight times the memory of the mask.
        own = torch.cat([(some * bits).sum(1) for some in part.split(CODED_ROWS)])
        if start > 0:
            # The numbers of both halves among n rows: their product stays below n².
            own = own.unique(return_inverse=True)[1]
            codes = codes.unique(return_inverse=True)[1] * mask.shape[0] + own
        else:
            codes = own
    return codes
