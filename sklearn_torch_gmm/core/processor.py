"""Properties of the CPU that decide how much data is processed at once, and in which layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

MOST_CHUNK_BYTES = 16 * 2**20
"""Working memory of a chunk of rows if caches are large or their size is unknown.

On a core with 2 MiB of L2 cache, an iteration for full covariances takes 71, 53 and 58 ms with
half, once and twice as much (docs/speed.md).
"""

LEAST_CHUNK_BYTES = 8 * 2**20
"""Working memory of a chunk if caches are small.

On a core with half a MiB of L2 cache, an iteration takes 118, 100 and 110 ms with half, once and
twice as much: small chunks have more overhead per operation, and large ones are cached less.
"""

CHUNK_IN_CACHES = 8
"""Size of a chunk in multiples of the L2 cache of a core.

It can be more than one since the cores share a chunk, and a larger cache. On a core with 1 MiB, an
iteration takes 83 ms, but 108 ms with twice the size.
"""

SUMS_AT_ONCE = 12
"""Number of sums over rows that MKL computes at once in double precision on AMD processors.

With a value that is not MKL's, products would be padded to lengths that are no faster.
"""


def capabilities() -> Mapping[str, Any]:
    """Return the capabilities of the CPU as reported by torch; empty in older releases."""
    query = getattr(torch.cpu, "get_capabilities", dict)
    known: Mapping[str, Any] = query()
    return known


def chunk_bytes() -> int:
    """Return the working memory of a chunk of rows that fits into the caches of this CPU."""
    cache = int(capabilities().get("l2_cache_size", 0))
    if cache <= 0:
        return MOST_CHUNK_BYTES
    return min(MOST_CHUNK_BYTES, max(LEAST_CHUNK_BYTES, CHUNK_IN_CACHES * cache))


def sums_by_component() -> bool:
    """Whether sums are computed faster as R T(x)ᵀ, ``[K, 1 + P]``, than as T(x) Rᵀ, ``[1 + P, K]``.

    With few components they differ by up to a factor of two. The faster one depends on how MKL, the
    source of torch's matrix products, treats the CPU: Intel's differ from AMD's, which are the only
    ones with SSE4a.
    """
    return bool(capabilities().get("sse4a", False))


def fast_length(length: int, num_components: int) -> int:
    """Return the number of moments, ``length`` or more, whose sums by component take least time.

    In double precision and with several components, a remainder of more than four modulo
    :data:`SUMS_AT_ONCE` takes MKL longer than a full group: up to twice as long with many
    components.
    """
    rest = length % SUMS_AT_ONCE
    if num_components < 8 or length < 9 or rest <= 4:
        return length
    return length - rest + SUMS_AT_ONCE
