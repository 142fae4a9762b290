"""Silence Lightning's messages while a fit of this package runs, in its context only.

Fits run in threads, next to the user's own runs of Lightning. Changing levels or filters of the
process would race and affect those too, so the installed filters depend on a context variable, and
the last fit that needs them removes them.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import product
from typing import Any

_is_quiet: ContextVar[bool] = ContextVar("is_quiet", default=False)

_LOGGERS = (
    "pytorch_lightning.utilities.rank_zero",
    "lightning_fabric.utilities.rank_zero",
    "lightning_fabric.utilities.distributed",
    "pytorch_lightning.accelerators.cuda",
    "pytorch_lightning.trainer.connectors.checkpoint_connector",
    "pytorch_lightning.trainer.connectors.signal_connector",
)


class _QuietFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO or not _is_quiet.get()


class _InQuietContext(type):
    def __subclasscheck__(cls, category: type) -> bool:
        return _is_quiet.get()


class _QuietWarning(Warning, metaclass=_InQuietContext):
    """A category that contains every warning in a quiet context, and no warning elsewhere.

    The filters with it are ordinary filters otherwise, since scikit-learn copies the filters of
    the caller into the threads of a parallel search.
    """


_log_filter = _QuietFilter()
_warning_filters: tuple[tuple[Any, ...], ...] = (
    # Not from callbacks and checkpoints: those warnings are about something the user asked for.
    (
        "ignore",
        None,
        _QuietWarning,
        re.compile(
            r"(pytorch_lightning|lightning_fabric)\."
            r"(?!callbacks\.|trainer\.connectors\.checkpoint_connector)"
        ),
        0,
    ),
    # The first is raised whenever a fit continues, the second concerns steps without effect.
    (
        "ignore",
        re.compile(
            "Checkpoint directory .* exists and is not empty"
            "|Using ModelCheckpoint with manual optimization and every_n_train_steps",
            re.IGNORECASE,
        ),
        _QuietWarning,
        re.compile(r"(pytorch_lightning|lightning_fabric)\."),
        0,
    ),
)
_lock = threading.Lock()
_users = 0


def _renew_lock() -> None:
    """In the child of a fork, the thread that may have held the lock does not exist."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def _install() -> None:
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        # A new list: another thread may be iterating over the old one.
        logger.filters = [*logger.filters, _log_filter]


def _uninstall() -> None:
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.filters = [f for f in logger.filters if f is not _log_filter]


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Suppress Lightning's information messages and warnings in this context."""
    global _users
    token = _is_quiet.set(True)
    with _lock:
        _users += 1
        if _users == 1:
            _install()
        filters = warnings.filters
        # A `catch_warnings` elsewhere may have installed another list since the last fit.
        for entry in _warning_filters:
            if entry not in filters:
                filters.insert(0, entry)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _uninstall()
                for entries, entry in product((filters, warnings.filters), _warning_filters):
                    while entry in entries:
                        entries.remove(entry)
        _is_quiet.reset(token)
