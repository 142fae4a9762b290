"""What a process may allocate, and what a call takes (on Linux, where peaks can be forgotten)."""

import os
import resource
from contextlib import suppress
from pathlib import Path


def physical_memory():
    """Bytes of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def limit_memory(limit):
    """Bound what the process may allocate, where the system can, in bytes."""
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def extra_bytes(call, *arguments):
    """Peak of resident memory during a call above what was resident before, and the result."""
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    result = call(*arguments)
    return max(0, status("VmHWM") - before), result


def status(field):
    """Bytes of a field of this process's status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return int(kilobytes) * 1024
