"""The line of the user's program that a warning is about."""

from __future__ import annotations

import inspect


def level_of_caller() -> int:
    """The `stacklevel` at which a function that calls this warns the caller of the package."""
    package, level = __name__.partition(".")[0], 0
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    return level
