"""Locks between processes that write to the same place.

The operating system holds the lock, on a separate file that is removed with it. The lock ends with
its process, however that ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

WAIT_SECONDS = 600.0
"""Time after which the holder of a lock is considered stuck: a hundred saves of a gigabyte."""

_POLL_SECONDS = 0.005
"""Time between two attempts, about that of a small save; twice as much doubles the idle time."""

_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EINVAL, errno.ENOLCK})
"""Errors of file systems without locks, such as Lustre mounted without them."""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock at ``path``, a name that nothing else uses, in a directory that exists.

    Threads exclude each other as processes do. On a file system without locks, this has no effect.

    Raises
    ------
    TimeoutError
        If other processes hold the lock all the time.
    OSError
        If the path is not a lock, or the directory cannot be written.
    """
    limit = time.monotonic() + WAIT_SECONDS
    while (descriptor := _acquire(path)) is None:
        if time.monotonic() > limit:
            msg = (
                f"Another process has been saving here for {WAIT_SECONDS:.0f} seconds: end it if "
                "it hangs, or remove this file"
            )
            raise TimeoutError(errno.ETIMEDOUT, msg, str(path))
        time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        _release(path, descriptor)


if sys.platform == "win32":

    def _acquire(path: Path) -> int | None:
        """Return the open lock, or None if another holds it; the system removes it when closed."""
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_TEMPORARY)
        except FileExistsError:
            return None
        except PermissionError:
            # Windows also raises this for a file that is about to be removed.
            if path.exists():
                return None
            raise

    def _release(path: Path, descriptor: int) -> None:
        os.close(descriptor)

else:

    def _acquire(path: Path) -> int | None:
        """Return the open lock, or None if another holds it."""
        _check_place(path)
        # Links are not followed, and opening a pipe does not wait.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o666)
        try:
            if _is_free(descriptor) and _is_at(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def _check_place(path: Path) -> None:
        try:
            # Checked once, since the lock may appear or disappear between two checks.
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISREG(mode):
            msg = "This is not a lock, but a save needs a lock file of this name: remove it"
            raise FileExistsError(errno.EEXIST, msg, str(path))

    def _is_free(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            return error.errno in _NO_LOCKS
        return True

    def _is_at(path: Path, descriptor: int) -> bool:
        """Whether the file still exists: the previous holder may just have removed it."""
        try:
            return os.path.samestat(path.lstat(), os.fstat(descriptor))
        except FileNotFoundError:
            return False

    def _release(path: Path, descriptor: int) -> None:
        # Removed first, so that a process that opens it afterwards creates a new one.
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        # A process forked in the meantime has the descriptor, and would otherwise hold the lock.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
