"""Files that are whole or not there.

What is written stands beside its final place, forced to the disk, before it is renamed: a file
system renames in one step. What is read is a regular file, and never longer than it is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path


def read_file(path: Path, *, follow_links: bool = False) -> bytes:
    """Return the content of a regular file.

    Raises
    ------
    OSError
        If there is no such file, if it is not a regular one (reading a pipe or a device might
        never end), or if it is a link and links are not followed.
    """
    mode = path.stat(follow_symlinks=follow_links).st_mode
    if stat.S_ISLNK(mode):
        msg = "This is a link, and nothing outside the directory is read: put a copy in its place"
        raise OSError(errno.ELOOP, msg, str(path))
    if not stat.S_ISREG(mode):
        msg = "This is not a regular file: give the file or directory that was saved"
        raise OSError(errno.EINVAL, msg, str(path))
    with path.open("rb") as file:
        return file.read(os.fstat(file.fileno()).st_size)


def write_file(path: Path, content: bytes) -> None:
    """Write a new file in place of any other, and force it to the disk."""
    path.unlink(missing_ok=True)
    # Exclusive creation never writes through a link.
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Force names that were added, changed or removed in a directory to the disk."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that whoever reads it, at any time, finds the old one or the new one."""
    if not path.parent.is_dir():
        # Otherwise the error would name the file beside it.
        msg = "The directory of this file is missing: make it, or give another path"
        raise FileNotFoundError(errno.ENOENT, msg, str(path))
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        write_file(beside, content)
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    sync_directory(path.parent)
