"""The splits of batches into rows with and without gaps, found once where batches stay the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from sklearn_torch_gmm.core.gaps import GapGroup, RowSplit, blocks_of, split_rows

COPIED_BYTES = 2**26
"""Memory for copies of rows of one kind, so that a pass need not collect them between the others.

Beyond it, each pass collects them block by block: 3 to 5 % of an iteration for [100k, 16] → 8 if
rows are complete, and 10 % with tied covariances if they are not.
Twice the value would take twice the memory for data of that size.
"""


class Splits:
    """The splits of batches into complete and incomplete rows.

    Batches that are the same in each pass are split once.
    """

    def __init__(self) -> None:
        self._known: dict[int, Split | None] = {}
        self._copied = 0

    def of(self, rows: Tensor, number: int, *, is_resident: bool) -> Split | None:
        """The split of the batch ``number``, ``rows [N, D]``; None if all rows are complete."""
        if is_resident and number in self._known:
            return self._known[number]
        found = split_rows(rows)
        split = None
        if found is not None:
            split = Split(found, self._may_copy if is_resident else _never)
        if is_resident:
            self._known[number] = split
        return split

    def release(self) -> None:
        """Free the memory, even while this object is still referenced."""
        self._known.clear()

    def _may_copy(self, num_bytes: int) -> bool:
        """Whether there is room for copies of this size, which is then taken."""
        has_room = self._copied + num_bytes <= COPIED_BYTES
        if has_room:
            self._copied += num_bytes
        return has_room


def _never(num_bytes: int) -> bool:
    return False


class Split:
    """The numbers of the complete and of the incomplete rows of a batch, and copies of them.

    ``may_copy(num_bytes)`` tells whether a copy may be kept, and reserves the memory.
    """

    def __init__(self, numbers: RowSplit, may_copy: Callable[[int], bool]) -> None:
        self.numbers = numbers
        self.may_copy = may_copy
        self._copies: dict[str, Tensor | None] = {}

    @property
    def groups(self) -> list[GapGroup]:
        """The incomplete rows, by the number of values that they lack."""
        return self.numbers.groups

    def complete(self, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Numbers of the complete ones of ``rows [N, D]``, and these rows, in blocks."""
        return self._blocks("complete", self.numbers.complete, rows)

    def incomplete(self, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The same for the rows with gaps."""
        return self._blocks("incomplete", self.numbers.incomplete, rows)

    def _blocks(self, kind: str, numbers: Tensor, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        if kind not in self._copies:
            may_copy = self.may_copy(len(numbers) * rows.shape[1] * rows.itemsize)
            # By feature, as a pass reads them.
            copy = rows.index_select(0, numbers).T.contiguous().T if may_copy else None
            self._copies[kind] = copy
        copy = self._copies[kind]
        if copy is not None:
            yield numbers, copy
            return
        size = next(blocks_of(rows)).stop
        for own in numbers.split(size):
            yield own, rows.index_select(0, own)
