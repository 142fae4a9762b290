"""State of the process that concurrent users change together."""

from __future__ import annotations

import os
import threading
from collections import Counter
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
        self._users: Counter[int] = Counter()
        """How often each thread has entered and not left, by its identifier."""
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget_other_threads)

    def _forget_other_threads(self) -> None:
        """In the child of a fork, they do not exist: they neither hold the lock nor leave."""
        self._lock = threading.Lock()
        own = threading.get_ident()
        self._users = Counter({own: max(0, self._users[own])})

    @property
    def is_in_use(self) -> bool:
        """Whether a thread is inside."""
        return self._users.total() > 0

    def __enter__(self) -> None:
        with self._lock:
            # An earlier change that nobody is left to restore is restored after this user.
            if self._restore is None:
                self._restore = self._change()
            self._users[threading.get_ident()] += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            # A generator may be closed by another thread: only the total matters.
            self._users[threading.get_ident()] -= 1
            if self._users.total() == 0 and self._restore is not None:
                self._users.clear()
                restore, self._restore = self._restore, None
                restore()
