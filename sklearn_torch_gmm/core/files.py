"""Atomic replacement of files.

A file is written under a temporary name in the same directory, forced to the disk, and renamed,
which is atomic. Only regular files are read.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import secrets
import stat
import time
from pathlib import Path

STALE_SECONDS = 3600
"""Age of an unfinished file from which on its writer is considered dead: a save takes less time."""


def check_regular_file(path: Path, *, follow_links: bool = False) -> None:
    """Raise OSError unless there is a regular file: reading a pipe or a device might never end.

    A link is also an error, unless links are followed.
    """
    try:
        mode = path.stat(follow_symlinks=follow_links).st_mode
    except NotADirectoryError:
        # The system's message does not name a remedy.
        msg = "A part of this path is a file, not a directory: give the path to which it was saved"
        raise NotADirectoryError(errno.ENOTDIR, msg, str(path)) from None
    if stat.S_ISLNK(mode):
        msg = (
            "This is a link, but only files inside the directory are read: remove it, or replace "
            "it by a copy"
        )
        raise OSError(errno.ELOOP, msg, str(path))
    if not stat.S_ISREG(mode):
        msg = "This is not a regular file: remove it, or give the file or directory that was saved"
        raise OSError(errno.EINVAL, msg, str(path))


def obstacle_to(directory: Path) -> Path | None:
    """Return the path that prevents the creation of a directory or of its parents, if any."""
    for place in (directory, *directory.parents):
        try:
            # Checked once, since another process may create the directory between two checks.
            mode = place.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            if place.is_symlink():
                return place
        else:
            return None if stat.S_ISDIR(mode) else place
    return None


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that readers always see either the old one or the new one.

    If several processes write to the same path, the last one to finish wins.
    """
    obstacle = obstacle_to(path.parent)
    if obstacle is not None:
        msg = "A part of this path is a file, not a directory: remove it, or give another path"
        raise NotADirectoryError(errno.ENOTDIR, msg, str(obstacle))
    if not path.parent.is_dir():
        # Otherwise the error would name the temporary file.
        msg = "The directory of this file does not exist: create it, or give another path"
        raise FileNotFoundError(errno.ENOENT, msg, str(path))
    if path.is_dir():
        msg = "This is a directory, not a file: remove it, or give another path"
        raise IsADirectoryError(errno.EISDIR, msg, str(path))
    _remove_stale(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        # Exclusive creation never writes through a link.
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Force names that were added, changed or removed in a directory to the disk."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_stale(path: Path) -> None:
    """Remove temporary files left behind by killed processes."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.new"):
        # Another process may remove it at the same time.
        with contextlib.suppress(OSError):
            if time.time() - left.lstat().st_mtime > STALE_SECONDS:
                left.unlink()
