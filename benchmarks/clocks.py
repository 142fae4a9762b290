"""Time and memory of a call."""

from __future__ import annotations

import resource
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def seconds(call: Callable[[], Any], synchronize: Callable[[], Any]) -> float:
    synchronize()
    begin = perf_counter()
    call()
    synchronize()
    return perf_counter() - begin


def steady_seconds(
    call: Callable[[], Any], synchronize: Callable[[], Any], budget: float = 0.5, most: int = 300
) -> float:
    """Median of as many calls as fit into `budget` seconds, one at least."""
    return statistics.median(times_of(call, synchronize, budget, most))


def times_of(
    call: Callable[[], Any], synchronize: Callable[[], Any], budget: float, most: int
) -> list[float]:
    times = [seconds(call, synchronize)]
    while sum(times) < budget and len(times) < most:
        times.append(seconds(call, synchronize))
    return times


def extra_bytes(call: Callable[[], Any]) -> tuple[int, Any]:
    """Peak of resident memory during a call above what was resident before, and the result."""
    before = _restart_peak()
    result = call()
    return max(0, _peak() - before), result


def _restart_peak() -> int:
    """Forget earlier peaks where the system can (Linux); returns what is resident."""
    try:
        _CLEAR.write_text("5")
        return _status("VmRSS")
    except OSError:
        # Elsewhere an earlier peak stays: problems are made in small blocks, so that there is none.
        return _peak()


def _peak() -> int:
    try:
        return _status("VmHWM")
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(field)
