"""The behaviour of a process after a fork, and when its parent has ended."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import cache, partial

import torch

PR_SET_PDEATHSIG = 1
"""Linux's number of the operation that chooses the signal sent at the death of the parent."""

SECONDS_BETWEEN_LOOKS = 1.0
"""Time between two checks of the parent, where the system does not signal its death."""

_process = os.getpid()


def is_in_fork() -> bool:
    """Whether this process was forked from one that had imported the package."""
    return os.getpid() != _process


@cache
def expect_forks() -> None:
    """Let processes that are forked from now on compute with one thread.

    Call it before a computation that may start threads of OpenMP. They do not exist in the child of
    a fork, where an operation that is divided among them would wait indefinitely. A child that is
    forked before the first computation can use any number of threads.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_compute_with_one_thread)


def _compute_with_one_thread() -> None:
    torch.set_num_threads(1)


def end_with_parent(parent: int | None = None) -> Callable[[], None]:
    """Kill this process when its parent ends, even while it waits or ignores signals.

    ``parent`` is the process ID of the parent, which is needed if it may have ended already. The
    function that is returned lets this process outlive its parent again. On Windows nothing is
    done: a process does not learn there that its parent has ended, and the parent of one in a
    virtual environment is a launcher, which has another ID.
    """
    if sys.platform == "win32":
        return _stay_free
    found = os.getppid()
    if sys.platform == "linux":
        system = ctypes.CDLL(None)
        system.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        outlive: Callable[[], None] = partial(system.prctl, PR_SET_PDEATHSIG, 0)
    else:
        is_free = threading.Event()
        threading.Thread(target=_watch, args=(found, is_free), daemon=True).start()
        outlive = is_free.set
    if os.getppid() != (parent or found):
        os._exit(1)
    return outlive


def _stay_free() -> None:
    """Nothing binds this process to its parent."""


def _watch(parent: int, is_free: threading.Event) -> None:
    while not is_free.wait(SECONDS_BETWEEN_LOOKS):
        if os.getppid() != parent:
            os._exit(1)
