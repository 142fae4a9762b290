"""Checks of the candidates of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from sklearn_torch_gmm.core.covariance import STRUCTURES, CovarianceType

ALL_TYPES = "all"
"""The value of the parameter that selects the four covariance types of scikit-learn."""


def covariance_types_of(value: Any) -> list[CovarianceType]:
    """Return the distinct covariance types that a parameter names, or raise ValueError."""
    types: Sequence[Any] = value
    if isinstance(value, str):
        types = get_args(CovarianceType) if value == ALL_TYPES else [value]
    unknown = [name for name in types if not isinstance(name, str) or name not in STRUCTURES]
    if unknown or len(types) == 0:
        msg = f"covariance_type must hold some of {sorted(STRUCTURES)}, got {value!r}."
        raise ValueError(msg)
    return list(dict.fromkeys(types))


def check_stability(n_init: int, max_components: int) -> None:
    """Raise ValueError unless there are several initializations to compare."""
    if n_init < 2 or max_components < 2:
        msg = (
            "criterion='stability' compares initializations of two or more components: it needs "
            f"n_init and max_components of at least 2, got n_init={n_init} and "
            f"max_components={max_components}."
        )
        raise ValueError(msg)
