"""The device and the floating-point type, derived from the parameters of the trainer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from sklearn_torch_gmm.core.matmul_precision import full_precision_products

_PRECISIONS: dict[Any, torch.dtype] = {
    "64-true": torch.float64,
    "64": torch.float64,
    64: torch.float64,
    "32-true": torch.float32,
    "32": torch.float32,
    32: torch.float32,
}

_AMD_GPUS_WITH_FAST_FLOAT64 = ("gfx906", "gfx908", "gfx90a", "gfx94", "gfx950")
"""Architectures of AMD's data-center GPUs, from the MI50 to the MI350.

Their versions, which torch gives as capabilities, would be read as those of NVIDIA's.
"""

_CAPABILITIES_WITH_FAST_FLOAT64 = {(6, 0), (7, 0), (8, 0), (9, 0), (10, 0)}
"""Compute capabilities of data-center GPUs, whose float64 rate is half that of float32.

Other GPUs compute at 1/32 or 1/64 of that rate; a capability missing here means EM in float32.
"""


def automatic_accelerator() -> str:
    """Return ``"cuda"`` if available, otherwise ``"cpu"``; not ``"mps"``, which lacks float64."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_for(trainer_params: Mapping[str, Any]) -> torch.device:
    """Return the device on which the trainer would compute in a single process.

    If that device is missing, fall back to the CPU, or to the first GPU instead of a later one, so
    that a model fitted on a large machine can predict on a small one.
    """
    accelerator = trainer_params.get("accelerator", "auto")
    if accelerator in ("auto", "gpu"):
        accelerator = automatic_accelerator()
    is_missing = accelerator == "cuda" and not torch.cuda.is_available()
    if accelerator not in ("cuda", "mps") or is_missing:
        return torch.device("cpu")
    index = _first_index(trainer_params.get("devices", 1))
    if accelerator == "cuda" and index >= torch.cuda.device_count():
        index = 0
    return torch.device(accelerator, index)


def _first_index(devices: Any) -> int:
    """Return the index of the first device. For Lightning "3" are three devices, "3," the fourth.

    Numbers of devices, and words, begin with the first one.
    """
    if isinstance(devices, str) and "," in devices:
        devices = [part for part in devices.split(",") if part.strip()]
    return int(devices[0]) if isinstance(devices, (list, tuple)) and devices else 0


def arithmetic_dtype(device: torch.device, precision: Any = None) -> torch.dtype:
    """Return the floating-point type for EM on a device.

    Without a ``precision`` it is float64 where that is fast: on CPUs and data-center GPUs.

    Raises
    ------
    ValueError
        If ``precision`` is not one of 64-true and 32-true.
    """
    if precision is not None:
        try:
            return _PRECISIONS[precision]
        except (KeyError, TypeError):  # an unhashable value, such as a list
            msg = f"precision must be '64-true' or '32-true' for EM, got {precision!r}."
            raise ValueError(msg) from None
    is_fast = device.type == "cpu" or (device.type == "cuda" and _has_fast_float64(device))
    return torch.float64 if is_fast else torch.float32


def _has_fast_float64(device: torch.device) -> bool:
    if torch.version.hip is not None:
        name = torch.cuda.get_device_properties(device).gcnArchName
        return name.startswith(_AMD_GPUS_WITH_FAST_FLOAT64)
    return torch.cuda.get_device_capability(device) in _CAPABILITIES_WITH_FAST_FLOAT64


def sendable(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return ``values`` in float32 if they are float64, which the device does not support."""
    is_double = values.dtype == torch.float64
    return values.float() if is_double and device.type == "mps" else values


def moved(
    values: torch.Tensor, device: torch.device | str | None, dtype: torch.dtype | None
) -> torch.Tensor:
    """Return values on another device in another type; None leaves either unchanged.

    They are cast in host memory, which supports every type.
    """
    if values.dtype == dtype and values.device == device:
        return values
    if values.device.type == "cpu":
        return values.to(dtype=dtype).to(device=device)
    return values.to(device=device).to(dtype=dtype)


def read_together(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return tensors of one device in host memory, for which the host waits once.

    They are sent in the floating-point type of the first one, which can represent bools as well.
    """
    if tensors[0].device.type == "cpu":
        return list(tensors)
    together = torch.cat([tensor.flatten().to(tensors[0].dtype) for tensor in tensors]).cpu()
    parts = together.split([tensor.numel() for tensor in tensors])
    return [
        part.view(tensor.shape).to(tensor.dtype)
        for part, tensor in zip(parts, tensors, strict=True)
    ]


def without_autocast(device_type: str) -> AbstractContextManager[Any]:
    """Compute in the types of the operands, even inside the caller's ``torch.autocast``."""
    if torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


@contextmanager
def as_if_alone() -> Iterator[None]:
    """Ignore the caller's autocast mode, default device and precision of float32 products."""
    # `torch.get_default_device` takes four times as long, since it reads an empty list.
    has_default = torch.empty(0).device.type != "cpu"
    on_cpu = torch.device("cpu") if has_default else nullcontext()
    with without_autocast("cpu"), without_autocast("cuda"), on_cpu, full_precision_products():
        yield
