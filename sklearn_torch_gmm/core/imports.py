"""Imports of large libraries, without looking for garbage among what they define."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_rests = threading.Event()


@contextmanager
def without_collections() -> Iterator[None]:
    """Let Python's garbage collector rest, for imports whose objects stay.

    Importing torch makes half a million objects. Collections among them took a quarter of the
    time of its import after scikit-learn's, and a third of that of Lightning.
    """
    if not gc.isenabled():
        yield
        return
    _rests.set()
    gc.disable()
    try:
        yield
        # Nobody's objects may leave the permanent generation but the ones that enter it here.
        if gc.get_freeze_count() == 0:
            # On to the oldest generation, where they are not looked at for some time.
            gc.freeze()
            gc.unfreeze()
    finally:
        gc.enable()
        _rests.clear()


def _enable_in_fork() -> None:
    """In a process that another thread has forked meanwhile, nothing else would enable it."""
    if _rests.is_set():
        gc.enable()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_enable_in_fork)
