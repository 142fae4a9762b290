"""A pass over rows of which some may have gaps."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sklearn_torch_gmm.core.dependent_gaps import DependentGapStep
from sklearn_torch_gmm.core.e_step import EStep
from sklearn_torch_gmm.core.fast_step import FastEStep, FastPass
from sklearn_torch_gmm.core.gap_step import GapBatch, GapStep
from sklearn_torch_gmm.core.independent_gaps import FastIndependentGapStep, IndependentGapStep
from sklearn_torch_gmm.core.shared_gaps import SharedGapStep
from sklearn_torch_gmm.core.splits import Splits


def gap_step_for(step: EStep, resident_rows: int | None = None) -> GapStep:
    """Return the way to add rows with gaps to an E-step, for its structure and its kind.

    ``resident_rows`` is a bound on their number if each pass reads the same ones.
    """
    structure = step.structure
    if structure.has_independent_features:
        if isinstance(step, FastEStep):
            return FastIndependentGapStep(step, resident_rows)
        return IndependentGapStep(step)
    if structure.has_pooled_scatter and isinstance(step, FastEStep):
        return SharedGapStep(step)
    return DependentGapStep(step)


class GapPass:
    """E-steps that share a pass: complete rows go to ``passes``, incomplete ones to each step.

    ``resident_rows`` is the total number of rows if each pass reads the same batches.
    """

    def __init__(
        self,
        steps: Sequence[EStep],
        passes: Sequence[EStep | FastPass | GapPass],
        splits: Splits,
        *,
        resident_rows: int | None = None,
    ) -> None:
        self._steps = steps
        self._passes = passes
        self._splits = splits
        self._resident_rows = resident_rows
        self._gap_steps: list[GapStep] = []
        self._begin()

    def renew(self) -> None:
        """Begin another pass, with the present parameters and moments of the same steps."""
        for one in self._passes:
            assert not isinstance(one, EStep), "only a fast step begins another pass"
            one.renew()
        for gap_step in self._gap_steps:
            gap_step.renew()
        self._begin()

    def _begin(self) -> None:
        self._num_batches = 0
        for step in self._steps:
            if step.structure.has_pooled_scatter:
                # Also where no row has a gap: the sums of all processes have the same parts.
                restarts, _, features = step.parameters.means.shape
                step.moments.gap_scatter = step.centre.new_zeros(restarts, features, features)

    def add(
        self, rows: Tensor, sample_weight: Tensor | None = None, labels: Tensor | None = None
    ) -> None:
        """Add ``rows [N, D]``, NaN for gaps, with weights and labels ``[N]`` to each step."""
        is_resident = self._resident_rows is not None
        split = self._splits.of(rows, self._num_batches, is_resident=is_resident)
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
        if not self._gap_steps:
            incomplete = self._resident_rows
            if incomplete == len(rows):
                # There is no other batch.
                incomplete = len(split.numbers.incomplete)
            self._gap_steps = [gap_step_for(step, incomplete) for step in self._steps]
        batch = GapBatch(rows, split, sample_weight, labels)
        for gap_step in self._gap_steps:
            gap_step.add(batch)
