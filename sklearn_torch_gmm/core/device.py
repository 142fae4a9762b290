"""Which device and which arithmetic, from what the user asked of the trainer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

_PRECISIONS: dict[Any, torch.dtype] = {
    "64-true": torch.float64,
    "64": torch.float64,
    64: torch.float64,
    "32-true": torch.float32,
    "32": torch.float32,
    32: torch.float32,
}

_CAPABILITIES_WITH_FAST_FLOAT64 = {(6, 0), (7, 0), (8, 0), (9, 0), (10, 0)}
"""Compute capabilities of the GPUs made for numerical work: half the rate of float32."""


def automatic_accelerator() -> str:
    """Return ``"cuda"`` where it is available, ``"cpu"`` elsewhere.

    Never Apple's MPS: it has no float64.
    """
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_for(trainer_params: Mapping[str, Any]) -> torch.device:
    """Return the device that the trainer would compute on in one process.

    Where that device is missing it is the CPU, or the first GPU in place of a later one: a model
    that was fitted on a large machine predicts on a small one.
    """
    accelerator = trainer_params.get("accelerator", "auto")
    if accelerator in ("auto", "gpu"):
        accelerator = automatic_accelerator()
    is_missing = accelerator == "cuda" and not torch.cuda.is_available()
    if accelerator not in ("cuda", "mps") or is_missing:
        return torch.device("cpu")
    devices = trainer_params.get("devices", 1)
    index = int(devices[0]) if isinstance(devices, (list, tuple)) and devices else 0
    if accelerator == "cuda" and index >= torch.cuda.device_count():
        index = 0
    return torch.device(accelerator, index)


def arithmetic_dtype(device: torch.device, precision: Any = None) -> torch.dtype:
    """Return the floating-point type for EM on a device.

    float64 wherever it is fast: on CPUs, and on GPUs made for numerical work.

    Raises
    ------
    ValueError
        If ``precision`` is none that EM can work in.
    """
    if precision is not None:
        try:
            return _PRECISIONS[precision]
        except (KeyError, TypeError):  # a list cannot be looked up
            msg = f"precision must be '64-true' or '32-true' for EM, got {precision!r}."
            raise ValueError(msg) from None
    if device.type == "cpu":
        return torch.float64
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability in _CAPABILITIES_WITH_FAST_FLOAT64:
            return torch.float64
    return torch.float32


def without_autocast(device_type: str) -> AbstractContextManager[Any]:
    """Compute in the types of the operands, whatever ``torch.autocast`` the caller is in."""
    if torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


@contextmanager
def as_if_alone() -> Iterator[None]:
    """Neither autocast nor create tensors on a default device, if the caller has set one."""
    has_default = torch.get_default_device().type != "cpu"
    on_cpu = torch.device("cpu") if has_default else nullcontext()
    with without_autocast("cpu"), without_autocast("cuda"), on_cpu:
        yield
