"""Computation in the child of a fork, which is a copy of a process without its threads.

OpenMP keeps a list of its threads for each thread that has computed with them. In the child they
no longer exist, and the next operation that is divided among them waits indefinitely.
"""

from __future__ import annotations

import os
from functools import cache

import torch

_process = os.getpid()


def is_in_fork() -> bool:
    """Whether this process was forked from one that had imported the package."""
    return os.getpid() != _process


@cache
def expect_forks() -> None:
    """Let processes that are forked from now on compute with one thread.

    Call it before a computation that may start threads. Before the first one, a child can use as
    many threads as it likes.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_compute_with_one_thread)


def _compute_with_one_thread() -> None:
    torch.set_num_threads(1)
