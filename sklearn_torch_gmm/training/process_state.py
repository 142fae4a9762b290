"""Process-wide state that Lightning changes, restored to the caller's values."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

SWITCHES = frozenset({"deterministic", "benchmark"})
"""Parameters with which the construction of a trainer sets switches of torch permanently."""


@contextmanager
def variable_as_before(name: str) -> Iterator[None]:
    """Restore an environment variable, or its absence."""
    before = os.environ.get(name)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


@contextmanager
def current_gpu_as_before() -> Iterator[None]:
    """Restore the current CUDA device, and the variable by which Lightning orders the devices.

    A program that has not used CUDA yet has the first device as its current one.
    """
    before = torch.cuda.current_device() if torch.cuda.is_initialized() else 0
    with variable_as_before("CUDA_DEVICE_ORDER"):
        try:
            yield
        finally:
            if torch.cuda.is_initialized() and torch.cuda.current_device() != before:
                torch.cuda.set_device(before)


@contextmanager
def switches_as_before(trainer_params: Mapping[str, Any]) -> Iterator[None]:
    """Restore the switches of torch that a trainer with these parameters sets."""
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
