"""State of the process that concurrent users change together."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from types import TracebackType


class SharedState:
    """A context for any number of threads: the first to enter changes the state, the last restores.

    If each restored what it has found, one that enters while another is inside would find the
    changed state, and might be the last to restore it.

    Parameters
    ----------
    change : callable
        Changes the state, or only looks at it, and returns a function that restores it. If it
        raises an error, nothing has been entered.
    """

    def __init__(self, change: Callable[[], Callable[[], None]]) -> None:
        self._change = change
        self._restore: Callable[[], None] | None = None
        self._users = 0
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        """Replace the lock in the child of a fork, without the thread that may have held it."""
        self._lock = threading.Lock()

    @property
    def is_in_use(self) -> bool:
        """Whether a thread is inside."""
        return self._users > 0

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._restore = self._change()
            self._users += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._restore is not None:
                restore, self._restore = self._restore, None
                restore()
