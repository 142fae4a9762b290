"""The time of a call, repeated or not, by one clock or another."""

import statistics
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple


class Timing(NamedTuple):
    """Seconds of each call, and the result of the last."""

    times: list[float]
    result: Any

    @property
    def median(self) -> float:
        return statistics.median(self.times)


def timed(
    call: Callable[[], Any],
    *,
    budget: float = 0.5,
    most: int = 300,
    warm: bool = False,
    synchronize: Callable[[], Any] = lambda: None,
    clock: Callable[[], float] = perf_counter,
) -> Timing:
    """As many calls as fit into `budget` seconds, one at least.

    Parameters
    ----------
    warm : bool
        Whether a first call, which imports and sets up things, is left out.
    synchronize : callable
        Waits until the device has done what it was told.
    """
    if warm:
        call()
    times: list[float] = []
    while not times or (sum(times) < budget and len(times) < most):
        synchronize()
        begin = clock()
        result = call()
        synchronize()
        times.append(clock() - begin)
    return Timing(times, result)


def once(call: Callable[[], Any], **options: Any) -> float:
    """Seconds of a single call."""
    return timed(call, budget=0.0, **options).median
