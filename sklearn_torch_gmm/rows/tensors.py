"""NumPy arrays and torch tensors on the same memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def as_tensor(array: npt.ArrayLike) -> Tensor:
    """Return a tensor on the memory of ``array``, read-only memory included, on the CPU.

    ``torch.from_numpy`` warns of read-only memory, once and for the whole process. Nothing here
    writes to data, so the flag is hidden from it instead.
    """
    array = np.asarray(array)
    if not array.flags.writeable:
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        array = np.asarray(_ArrayInterface(interface, array))
    if min(array.strides, default=0) < 0 or not array.dtype.isnative:
        # A copy at any rate: an array of one row is contiguous, whatever its strides.
        array = array.astype(array.dtype.newbyteorder("="), order="C")
    return torch.from_numpy(array)


def has_known_shape(array: Any) -> bool:
    """Whether its sizes are known: NaN stands for those of Dask's selections until it computes."""
    return float not in map(type, array.shape)


class _ArrayInterface:
    def __init__(self, interface: dict[str, Any], owner: object) -> None:
        self.__array_interface__ = interface
        self._owner = owner
