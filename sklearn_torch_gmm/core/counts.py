"""Checks of numeric arguments. A bool is not accepted, although Python treats it as an integer."""

from __future__ import annotations

from numbers import Integral
from typing import Any


def is_number(value: Any, kind: type) -> bool:
    """Whether a value is of a type from :mod:`numbers` and not a bool."""
    return isinstance(value, kind) and not isinstance(value, bool)


def check_count(value: Any, name: str, least: int = 1) -> int:
    """Return an integer of at least ``least`` as an int, or raise a ValueError."""
    if not is_number(value, Integral) or int(value) < least:
        msg = f"{name} must be an integer of at least {least}, got {value!r}."
        raise ValueError(msg)
    return int(value)
