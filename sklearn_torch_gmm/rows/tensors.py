"""NumPy arrays and torch tensors that share memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def as_tensor(array: npt.ArrayLike) -> Tensor:
    """Return a CPU tensor that shares the memory of ``array``, even if it is read-only.

    ``torch.from_numpy`` warns about read-only memory, once per process. Nothing here writes to the
    data, so the flag is hidden from torch.
    """
    array = np.asarray(array)
    if not array.flags.writeable:
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        array = np.asarray(_ArrayInterface(interface, array))
    # The fields of a structured array may lie at any distance from each other.
    has_steps = all(stride >= 0 and stride % array.itemsize == 0 for stride in array.strides)
    if not has_steps or not array.dtype.isnative:
        # `astype` always copies; an array of one row is contiguous whatever its strides.
        array = array.astype(array.dtype.newbyteorder("="), order="C")
    return torch.from_numpy(array)


def device_of(values: Any) -> torch.device | None:
    """Return the device of a tensor, and None for anything else."""
    return values.device if isinstance(values, Tensor) else None


def has_known_shape(array: Any) -> bool:
    """Whether all sizes are known; those of Dask's selections are NaN before a computation."""
    return float not in map(type, array.shape)


class _ArrayInterface:
    def __init__(self, interface: dict[str, Any], owner: object) -> None:
        self.__array_interface__ = interface
        self._owner = owner
