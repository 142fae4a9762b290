"""What a process of a measurement may take, and what may be told of its machine.

Nothing but the standard library is imported here: the worker that times an import reads this too.
"""

from __future__ import annotations

import re


def without_paths(text: str) -> str:
    return re.sub(r"(?<![:/\w])(?:/[^\s/:'\"]+)+/", "", text)


def limit_memory(limit: int) -> None:
    """Bound what the process may allocate, where the system can, in bytes."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ImportError, ValueError, OSError):
        pass
