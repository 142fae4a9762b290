"""The progress of a fit, stage by stage, as bars on stderr."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sklearn_torch_gmm.em.progress import PassReport

if TYPE_CHECKING:
    from sklearn_torch_gmm._estimator.bar import Bar

_EM = "EM"


@contextmanager
def progress_bars(verbose: int) -> Iterator[ProgressBars | None]:
    """Show the progress of the block if ``verbose``, and remove the bar however it ends."""
    if not verbose:
        yield None
        return
    bars = ProgressBars()
    try:
        yield bars
    finally:
        bars.ended()


class ProgressBars:
    """Implements :class:`~sklearn_torch_gmm.em.progress.Monitor`.

    A bar belongs to the process that opened it: a process that receives a copy of this object, by
    a fork or a pickle, opens one of its own.

    Attributes
    ----------
    prefix : str
        Precedes the names of the stages.
    has_reports : bool
        Whether there was a report. Of several processes, only the first receives reports.
    """

    def __init__(self) -> None:
        self.prefix = ""
        self.has_reports = False
        self._stage = ""
        self._bar: Bar | None = None
        self._owner = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        # A bar holds a lock and a stream, which cannot be pickled.
        return {**vars(self), "_bar": None}

    # -- reports of a fit --------------------------------------------------------------------------

    def starts(self, number: int) -> None:
        """Show the progress of the initializations."""
        # A run of K-means reports nothing until it is done.
        self.stage("initialization", number, "run", ticks=True)

    def start_found(self) -> None:
        """Count an initialization."""
        self.step()

    def pass_done(self, report: PassReport) -> None:
        """Show the iterations of a single fit, or the number of fits that are done."""
        is_single = report.num_fits == 1
        limit = report.max_iter if report.max_iter is not None and report.max_iter >= 0 else None
        bar = self._own_bar()
        if bar is None or self._stage != _EM:
            total, unit = (limit, "it") if is_single else (report.num_fits, "fit")
            bar = self.stage(_EM, total, unit)
        note = f"log-likelihood {report.bound:.6g} ({report.change:+.0e})"
        if not is_single:
            note = f"iteration {report.iterations}" + ("" if limit is None else f" of {limit}")
        bar.set_postfix_str(note, refresh=False)
        bar.update((report.iterations if is_single else report.fits_done) - bar.n)
        if report.is_last:
            self.ended()

    def ended(self) -> None:
        """Remove the bar of this process."""
        bar = self._own_bar()
        self._bar = None
        if bar is not None:
            bar.close()

    # -- other stages -----------------------------------------------------------------------------

    def stage(self, name: str, total: int | None, unit: str, *, ticks: bool = False) -> Bar:
        """Replace the bar by one for another stage of ``total`` steps."""
        from sklearn_torch_gmm._estimator.bar import Bar

        self.ended()
        self.has_reports, self._stage, self._owner = True, name, os.getpid()
        self._bar = Bar(f"{self.prefix}{name}", total, unit, ticks=ticks)
        return self._bar

    def step(self) -> None:
        """Count a step of the stage, whose bar is removed after the last."""
        bar = self._own_bar()
        if bar is not None:
            bar.update()
            if bar.n == bar.total:
                self.ended()

    def write(self, lines: Sequence[str]) -> None:
        """Write lines that are not removed."""
        from sklearn_torch_gmm._estimator.bar import write

        for line in lines:
            write(line)

    def _own_bar(self) -> Bar | None:
        if self._bar is not None and self._owner != os.getpid():
            self._bar.leave_to_parent()
            self._bar = None
        return self._bar
