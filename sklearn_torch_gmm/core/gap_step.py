"""Rows with gaps in an E-step: the moments that are expected given the values that they have.

With x̂ the row completed by its conditional mean and W its conditional covariance, under the current
parameters, the sums are Σ r x̂ and Σ r (x̂ x̂ᵀ + W). They are added to those of the complete rows, so
the M-step and everything after it is the same. Values are assumed to be missing at random: whether
they are missing may depend on the values that were observed, but not on those that were not.

Source: Dempster, Laird and Rubin, Maximum likelihood from incomplete data via the EM algorithm
(1977); Ghahramani and Jordan, Supervised learning from incomplete data via an EM approach (1994).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor

from sklearn_torch_gmm.core.e_step import EStep
from sklearn_torch_gmm.core.fast_step import FastEStep
from sklearn_torch_gmm.core.splits import Split


class GapBatch(NamedTuple):
    """A batch of rows, of which the incomplete ones are to be added."""

    rows: Tensor
    """``[N, D]``, with NaN for gaps."""
    split: Split
    sample_weight: Tensor | None = None
    """``[N]``"""
    labels: Tensor | None = None
    """``[N]``"""


class GapStep(ABC):
    """Adds rows with gaps to the moments of an E-step, about its centre."""

    def __init__(self, step: EStep) -> None:
        self._step = step
        self.renew()

    @abstractmethod
    def renew(self) -> None:
        """Begin another pass, with the present parameters and moments of the step."""

    @abstractmethod
    def add(self, batch: GapBatch) -> None:
        """Add the moments of the incomplete rows of a batch."""

    @property
    def _extents(self) -> Tensor | None:
        """The maximum absolute deviations ``[D]`` to be collected, as far as unknown."""
        return self._step.extents if isinstance(self._step, FastEStep) else None

    def _add_second(self, second: Tensor) -> None:
        """Add second moments ``[R, K, Q]``, or a pooled scatter ``[R, D, D]``."""
        moments = self._step.moments
        if moments.gap_scatter is None:
            moments.second(self._step.parameters.means.shape[-1]).add_(second)
        else:
            moments.gap_scatter.add_(second)
