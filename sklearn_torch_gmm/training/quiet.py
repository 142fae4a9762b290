"""Silence Lightning's chatter while a fit of ours runs, in this context only.

Fits run in threads, beside fits of the user's own. Switching levels or filters for the process
would race and reach too far, so the filters that are put in place look at a context variable, and
are taken out again by the last fit that needs them.
"""

from __future__ import annotations

import logging
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
    """Every category of warnings, where Lightning is to be silent; no category elsewhere.

    Its parts have the types that all filters have, since scikit-learn copies the filters of the
    caller into the threads of a parallel search.
    """


_log_filter = _QuietFilter()
_warning_filters: tuple[tuple[Any, ...], ...] = (
    # What is said of callbacks and checkpoints is about something that the user asked for.
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
    # The one as it is whenever a fit goes on, the other about steps that change nothing.
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


def _install() -> None:
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        # A new list: another thread may be walking the old one.
        logger.filters = [*logger.filters, _log_filter]


def _uninstall() -> None:
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.filters = [f for f in logger.filters if f is not _log_filter]


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep what Lightning tells of itself in this thread from being seen."""
    global _users
    token = _is_quiet.set(True)
    with _lock:
        _users += 1
        if _users == 1:
            _install()
        filters = warnings.filters
        # A `catch_warnings` somewhere may have put another list in place since the last fit.
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
