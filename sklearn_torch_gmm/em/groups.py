"""The rows of a chunk, grouped by the component to which they belong.

A product with the indicators of the components multiplies each row by K − 1 zeros. Processing the
rows of one component at a time avoids this, but takes a few operations for each component.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sklearn_torch_gmm.core.cached_property import cached_property

FEWEST_VALUES_OF_GROUP = 2**12
"""Mean number of values in the rows of a component from which on it is a separate group.

With half as many, the operations on groups take as long as the work that they save.
"""


@dataclass(frozen=True)
class Group:
    """Rows ``[m, D]`` that belong to some of the components, and their weights ``[m]``."""

    components: slice
    rows: Tensor
    weights: Tensor
    labels: Tensor | None
    """``[m]``, or None if the components are one of several."""

    @property
    def is_one_of_many(self) -> bool:
        """Whether the rows belong to one component among others."""
        return self.labels is None

    @cached_property
    def shares(self) -> Tensor:
        """The weight of each row in its own component, zero in the others: ``[k, m]``."""
        if self.labels is None:
            return self.weights.unsqueeze(0)
        shares = self.rows.new_zeros(self.components.stop, self.rows.shape[0])
        return shares.scatter_(0, self.labels.unsqueeze(0), self.weights.unsqueeze(0))

    def residuals(self, means: Tensor) -> Tensor:
        """x − μ of the row's own component ``[D, m]``, from ``means [K, D]``."""
        own = means[self.components] if self.labels is None else means[self.labels]
        return (self.rows - own).T


def groups(labels: Tensor, rows: Tensor, weights: Tensor, num_components: int) -> Iterator[Group]:
    """Rows ``[n, D]`` of a chunk with labels and weights ``[n]``: by component, or all if few."""
    if num_components == 1 or rows.numel() < FEWEST_VALUES_OF_GROUP * num_components:
        yield Group(slice(0, num_components), rows, weights, labels)
        return
    # NumPy sorts integers of 16 bits by counting, in a fifth of the time of others.
    keys = labels.to(torch.int16 if num_components < 2**15 else torch.int64).numpy()
    order = torch.from_numpy(np.argsort(keys, kind="stable"))
    sizes = labels.bincount(minlength=num_components).tolist()
    # One at a time, since a copy of the whole chunk in new memory would take longer.
    for component, own in enumerate(order.split(sizes)):
        part = rows.index_select(0, own), weights.index_select(0, own)
        yield Group(slice(component, component + 1), *part, None)
