"""The time of a call, repeated or not, by one clock or another, and its memory (on Linux)."""

import statistics
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple


class Timing(NamedTuple):
    """Seconds of each call, and the result of the last."""

    times: list[float]
    result: Any

    @property
    def median(self):
        return statistics.median(self.times)


def timed(call, *args, budget=0.5, most=300, warm=False, clock=perf_counter, wait=lambda: None):
    """As many calls as fit into `budget` seconds, one at least.

    Parameters
    ----------
    warm : bool
        Whether a first call, which imports and sets up things, is left out.
    wait : callable
        Waits until the device has done what it was told.
    """
    if warm:
        call(*args)
    times = []
    while not times or (sum(times) < budget and len(times) < most):
        wait()
        begin = clock()
        result = call(*args)
        wait()
        times.append(clock() - begin)
    return Timing(times, result)


def once(call, *args, **options):
    """Seconds of a single call."""
    return timed(call, *args, budget=0.0, **options).median


def extra_bytes(call, *arguments):
    """Peak of resident memory during a call above what was resident before, and the result."""
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    result = call(*arguments)
    return max(0, status("VmHWM") - before), result


def status(field):
    """Bytes of a field of this process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return int(kilobytes) * 1024
