"""What a fit tells of its progress while it runs.

A fit knows neither who listens nor whether anybody does; a listener only reads.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class PassReport(NamedTuple):
    """The state of all fits of a job after a pass over the data."""

    iterations: int
    """Iterations of the restart that has done most."""
    max_iter: int | None
    """Largest number of iterations; None or -1: no limit."""
    fits_done: int
    num_fits: int
    bound: float
    """The largest bound so far, in nats."""
    change: float
    """Its change by the last iteration of that restart; NaN after the first iteration."""
    is_last: bool
    """Whether no pass follows."""


class Monitor(Protocol):
    """Receives the progress of a job; of several processes, only the first reports to it."""

    def starts(self, number: int) -> None:
        """The search for this many starts begins."""

    def start_found(self) -> None:
        """One more start is found."""

    def pass_done(self, report: PassReport) -> None:
        """A pass over the data is done."""

    def ended(self) -> None:
        """The passes have ended in this process, successfully or not."""
