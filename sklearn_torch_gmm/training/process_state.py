"""What Lightning changes for the whole process, put back as the caller had it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

SWITCHES = frozenset({"deterministic", "benchmark"})
"""Parameters with which the making of a trainer sets switches of torch's, for good."""


@contextmanager
def variable_as_before(name: str) -> Iterator[None]:
    """Put back a variable of the environment, which need not be there."""
    before = os.environ.get(name)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


@contextmanager
def switches_as_before(trainer_params: Mapping[str, Any]) -> Iterator[None]:
    """Put back the switches of torch's that a trainer with these parameters sets."""
    if SWITCHES.isdisjoint(trainer_params):
        yield
        return
    mode, benchmark = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    with variable_as_before("CUBLAS_WORKSPACE_CONFIG"):
        try:
            yield
        finally:
            torch.set_deterministic_debug_mode(mode)
            torch.backends.cudnn.benchmark = benchmark
