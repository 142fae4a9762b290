"""What parameters may be, beside the constraints that scikit-learn has."""

from __future__ import annotations

from collections import ChainMap
from typing import Any

from sklearn_torch_gmm._private_parts import Interval, StrOptions
from sklearn_torch_gmm.core.counts import is_number
from sklearn_torch_gmm.core.covariance import STRUCTURES


def covariance_types(*others: str) -> StrOptions:
    """Names of the structures that are registered at the time of the check, or another word."""
    choices: ChainMap[str, Any] = ChainMap(dict.fromkeys(others), STRUCTURES)
    # A view, which changes with the registry.
    return StrOptions(choices.keys())


class Numbers(Interval):  # type: ignore[misc]
    """Numbers from the least one on; truth values are none.

    To scikit-learn True is 1. But nobody who writes ``batch_size=True`` wants batches of one row.

    Parameters
    ----------
    kind : type
        ``numbers.Integral`` or ``numbers.Real``.
    least : int or float
    """

    def __init__(self, kind: type, least: float) -> None:
        super().__init__(kind, least, None, closed="left")

    def is_satisfied_by(self, val: Any) -> bool:
        return is_number(val, self.type) and bool(super().is_satisfied_by(val))
