"""Numbers that a user asks for: truth values are none, though Python counts with them."""

from __future__ import annotations

from numbers import Integral
from typing import Any


def is_number(value: Any, kind: type) -> bool:
    """Whether a value is a number of a kind in :mod:`numbers`, and no truth value."""
    return isinstance(value, kind) and not isinstance(value, bool)


def check_count(value: Any, name: str, least: int = 1) -> int:
    """Return a number of at least ``least`` as an int.

    Raises
    ------
    ValueError
        If it is less, or no whole number.
    """
    if not is_number(value, Integral) or int(value) < least:
        msg = f"{name} must be a whole number of at least {least}, got {value!r}."
        raise ValueError(msg)
    return int(value)
