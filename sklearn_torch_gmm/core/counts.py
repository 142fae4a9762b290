"""Numbers of things that a user asks for."""

from __future__ import annotations

from numbers import Integral
from typing import Any


def check_count(value: Any, name: str) -> int:
    """Return a number of at least one as an int.

    Raises
    ------
    ValueError
        If it is less, or no whole number. Truth values are none, though Python counts with them.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 1:
        msg = f"{name} must be a whole number of at least 1, got {value!r}."
        raise ValueError(msg)
    return int(value)
