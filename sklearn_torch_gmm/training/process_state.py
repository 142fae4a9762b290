"""Process-wide state that Lightning changes, restored to the caller's values."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch

from sklearn_torch_gmm.core.shared_state import SharedState

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


def switches_as_before(trainer_params: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Restore the switches of torch that a trainer with these parameters sets."""
    return nullcontext() if SWITCHES.isdisjoint(trainer_params) else _switches


def _look_at_switches() -> Callable[[], None]:
    stack = ExitStack()
    stack.enter_context(variable_as_before("CUBLAS_WORKSPACE_CONFIG"))
    stack.callback(torch.set_deterministic_debug_mode, torch.get_deterministic_debug_mode())
    stack.callback(setattr, torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
    return stack.close


_switches = SharedState(_look_at_switches)
