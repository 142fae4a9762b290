"""tqdm's progress bar for this terminal or notebook.

Imported when a bar is shown: the import takes as long as a small fit, and looks for a notebook.
"""

from __future__ import annotations

import shutil
import sys
from threading import Event, Thread
from typing import Any

from tqdm.auto import tqdm

SECONDS_BETWEEN_UPDATES = 0.2
"""Half of this would double the log of a batch job, and nobody reads faster."""

SECONDS_BETWEEN_TICKS = 1.0
"""The clock of a bar shows full seconds."""


class Bar(tqdm):  # type: ignore[misc]
    """A bar on stderr that is removed when it is closed.

    tqdm arranges it with the bars of other threads and of the caller. With ``ticks``, a thread
    keeps its clock running during a step that may take minutes.
    """

    # Otherwise the thread with which tqdm monitors its bars would outlive the fit.
    monitor_interval = 0

    def __init__(self, name: str, total: int | None, unit: str, *, ticks: bool = False) -> None:
        self._is_closed = Event()
        self._clock = Thread(target=self._tick, daemon=True) if ticks else None
        size: dict[str, Any] = {"dynamic_ncols": True}
        if sys.stderr.isatty():
            # By default tqdm shows nothing on a terminal of unknown size.
            size = dict(zip(("ncols", "nrows"), shutil.get_terminal_size(), strict=True))
        super().__init__(
            total=total,
            desc=name,
            unit=unit,
            leave=False,
            mininterval=SECONDS_BETWEEN_UPDATES,
            # A new note is shown even if the count is the same.
            miniters=0,
            **size,
        )
        if self._clock is not None and not self.disable:
            self._clock.start()

    def _tick(self) -> None:
        while not self._is_closed.wait(SECONDS_BETWEEN_TICKS):
            self.refresh()

    def close(self) -> None:
        """Remove the bar; a notebook would otherwise keep an unfinished one, marked as an error."""
        if self.disable:
            return
        self._is_closed.set()
        if self._clock is not None:
            self._clock.join()
        self.total = self.n
        super().close()

    def leave_to_parent(self) -> None:
        """Forget the bar in a forked process, without a change on the screen."""
        self.disable = True


def write(line: str) -> None:
    """Write a permanent line to stderr, between the bars of other threads and of the caller."""
    tqdm.write(line, file=sys.stderr)
