"""Parameter constraints in addition to scikit-learn's."""

from __future__ import annotations

from collections import ChainMap
from typing import Any

from sklearn_torch_gmm._private_parts import Interval, StrOptions
from sklearn_torch_gmm.core.counts import is_number
from sklearn_torch_gmm.core.covariance import STRUCTURES


def covariance_types(*others: str) -> StrOptions:
    """Allow the names of the covariance structures registered at the time of the check."""
    choices: ChainMap[str, Any] = ChainMap(dict.fromkeys(others), STRUCTURES)
    # A view follows the registry, to which users may add structures.
    return StrOptions(choices.keys())


class Numbers(Interval):  # type: ignore[misc]
    """Numbers of a ``kind`` from :mod:`numbers` that are at least ``least``, except bool.

    scikit-learn treats True as 1, but ``batch_size=True`` is a mistake, not batches of one sample.
    """

    def __init__(self, kind: type, least: float) -> None:
        super().__init__(kind, least, None, closed="left")

    def is_satisfied_by(self, val: Any) -> bool:
        return is_number(val, self.type) and bool(super().is_satisfied_by(val))
