"""Reports of the progress of a running fit.

A fit does not depend on the listener, which only reads the reports.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class PassReport(NamedTuple):
    """The state of all fits of a job after a pass over the data."""

    iterations: int
    """Largest number of iterations of a restart so far."""
    max_iter: int | None
    """Maximum number of iterations; None or -1: no limit."""
    fits_done: int
    num_fits: int
    bound: float
    """The largest bound so far, in nats."""
    change: float
    """The change by the last iteration of that restart; NaN after the first iteration."""
    is_last: bool
    """Whether this was the last pass."""


class Monitor(Protocol):
    """Receives the progress of a job; of several processes, only the first reports to it."""

    def starts(self, number: int) -> None:
        """Receive the number of initializations, which begin now."""

    def start_found(self) -> None:
        """Count an initialization that is done."""

    def pass_done(self, report: PassReport) -> None:
        """Receive the report of a pass over the data."""

    def ended(self) -> None:
        """Learn that the passes have ended in this process, successfully or not."""
