"""What is known of the processor, where that decides how much lies in memory and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

MOST_CHUNK_BYTES = 16 * 2**20
"""Working memory of a chunk of rows, where caches are large or their size is not known."""

LEAST_CHUNK_BYTES = 8 * 2**20
"""The same where they are small: with less, the cost of calling an operation shows."""

CHUNK_IN_CACHES = 8
"""How many times the cache of a core a chunk may take: the cores share it, and a larger cache."""

SUMS_AT_ONCE = 12
"""How many sums over rows MKL finds at once in double precision on AMD's processors."""


def capabilities() -> Mapping[str, Any]:
    """What torch can tell of the processor; older releases tell nothing."""
    query = getattr(torch.cpu, "get_capabilities", dict)
    known: Mapping[str, Any] = query()
    return known


def chunk_bytes() -> int:
    """Working memory of a chunk of rows that the caches of this processor hold."""
    cache = int(capabilities().get("l2_cache_size", 0))
    if cache <= 0:
        return MOST_CHUNK_BYTES
    return min(MOST_CHUNK_BYTES, max(LEAST_CHUNK_BYTES, CHUNK_IN_CACHES * cache))


def sums_by_component() -> bool:
    """Whether sums are found faster as R T(x)ᵀ, ``[K, 1 + P]``, than as T(x) Rᵀ, ``[1 + P, K]``.

    With few components they differ by up to two times. Which is the faster depends on what MKL, of
    which torch has its matrix products, does on a processor: one thing on Intel's, another on
    AMD's, which alone have SSE4a.
    """
    return bool(capabilities().get("sse4a", False))


def fast_length(length: int, num_components: int) -> int:
    """For how many moments sums by component are found fastest, of ``length`` or a few more.

    In double precision and with several components, a rest of more than four takes MKL longer than
    :data:`SUMS_AT_ONCE` would: up to twice as long with many components.
    """
    rest = length % SUMS_AT_ONCE
    if num_components < 8 or length < 9 or rest <= 4:
        return length
    return length - rest + SUMS_AT_ONCE
