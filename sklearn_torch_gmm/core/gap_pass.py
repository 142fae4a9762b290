"""A pass over rows of which some may have gaps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from sklearn_torch_gmm.core.dependent_gaps import DependentGapStep
from sklearn_torch_gmm.core.e_step import EStep
from sklearn_torch_gmm.core.fast_step import FastEStep, FastPass
from sklearn_torch_gmm.core.gap_step import GapBatch, GapStep
from sklearn_torch_gmm.core.gaps import RowSplit, blocks_of, split_rows
from sklearn_torch_gmm.core.independent_gaps import FastIndependentGapStep, IndependentGapStep
from sklearn_torch_gmm.core.shared_gaps import SharedGapStep

COPIED_BYTES = 2**26
"""Memory for copies of the complete rows, so that a pass need not collect them between the others.

Beyond it, each pass collects them block by block: 3 to 5 % of an iteration for [100k, 16] → 8.
Twice the value would take twice the memory for data of that size.
"""


def gap_step_for(step: EStep) -> GapStep:
    """Return the way to add rows with gaps to an E-step, for its structure and its kind."""
    structure = step.structure
    if structure.has_independent_features:
        return (
            FastIndependentGapStep(step)
            if isinstance(step, FastEStep)
            else IndependentGapStep(step)
        )
    if structure.has_pooled_scatter and isinstance(step, FastEStep):
        return SharedGapStep(step)
    return DependentGapStep(step)


class Splits:
    """The splits of batches into complete and incomplete rows.

    Batches that are the same in each pass are split once.
    """

    def __init__(self) -> None:
        self._known: dict[int, _Split | None] = {}
        self._copied = 0

    def of(self, rows: Tensor, number: int, *, is_resident: bool) -> _Split | None:
        """The split of the batch ``number``, ``rows [N, D]``; None if all rows are complete."""
        if is_resident and number in self._known:
            return self._known[number]
        found = split_rows(rows)
        split = None if found is None else _Split(found)
        if is_resident:
            self._known[number] = split
            if split is not None:
                size = len(split.numbers.complete) * rows.shape[1] * rows.itemsize
                if self._copied + size <= COPIED_BYTES:
                    self._copied += size
                    split.copy(rows)
        return split

    def release(self) -> None:
        """Free the memory, even while this object is still referenced."""
        self._known.clear()


class _Split:
    """The numbers of the rows of a batch, and perhaps a copy of its complete rows."""

    def __init__(self, numbers: RowSplit) -> None:
        self.numbers = numbers
        self._copy: Tensor | None = None

    def copy(self, rows: Tensor) -> None:
        """Keep a copy of the complete ones of ``rows [N, D]``, by feature as a pass reads them."""
        self._copy = rows.index_select(0, self.numbers.complete).T.contiguous().T

    def complete(self, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Numbers of complete rows, and these rows, in blocks."""
        numbers = self.numbers.complete
        if self._copy is not None:
            yield numbers, self._copy
            return
        size = next(blocks_of(rows)).stop
        for own in numbers.split(size):
            yield own, rows.index_select(0, own)


class GapPass:
    """E-steps that share a pass: complete rows go to ``passes``, incomplete ones to each step.

    ``is_resident`` says that each pass reads the same batches.
    """

    def __init__(
        self,
        steps: Sequence[EStep],
        passes: Sequence[EStep | FastPass | GapPass],
        splits: Splits,
        *,
        is_resident: bool = False,
    ) -> None:
        self._steps = steps
        self._passes = passes
        self._splits = splits
        self._is_resident = is_resident
        self._num_batches = 0
        self._gap_steps: list[GapStep] | None = None
        for step in steps:
            if step.structure.has_pooled_scatter:
                # Also where no row has a gap: the sums of all processes have the same parts.
                restarts, _, features = step.parameters.means.shape
                step.moments.gap_scatter = step.centre.new_zeros(restarts, features, features)

    def add(
        self, rows: Tensor, sample_weight: Tensor | None = None, labels: Tensor | None = None
    ) -> None:
        """Add ``rows [N, D]``, NaN for gaps, with weights and labels ``[N]`` to each step."""
        split = self._splits.of(rows, self._num_batches, is_resident=self._is_resident)
        self._num_batches += 1
        if split is None:
            for one in self._passes:
                one.add(rows, sample_weight, labels)
            return
        for numbers, complete in split.complete(rows):
            weights = None if sample_weight is None else sample_weight[numbers]
            known = None if labels is None else labels[numbers]
            for one in self._passes:
                one.add(complete, weights, known)
        if self._gap_steps is None:
            self._gap_steps = [gap_step_for(step) for step in self._steps]
        batch = GapBatch(rows, split.numbers, sample_weight, labels)
        for gap_step in self._gap_steps:
            gap_step.add(batch)
