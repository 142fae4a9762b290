"""A device that does not exist: what a GPU would be given, and what the host would wait for.

Its tensors say that they are on "cuda:0" or "mps:0", hold their values in host memory, and refuse
an operation that mixes them with tensors of the host, as the real ones do. Each transfer is
recorded. Streams are in order only in themselves: an operation is refused that uses what another
stream makes without waiting for it. Of a GPU it has neither the speed nor the rounding.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import torch
from lightning_fabric.accelerators import mps as fabric_mps
from pytorch_lightning.accelerators import mps as pl_mps
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

CPU = torch.device("cpu")

# The number of values that they return depends on values: the host waits for it.
WAITING = frozenset({"nonzero", "masked_select", "_unique2", "bincount", "equal", "is_nonzero"})


class Transfer(NamedTuple):
    """``kind`` is "send", "read", or "wait" for an operation of which the host awaits the size."""

    kind: str
    num_values: int
    dtype: torch.dtype
    is_aside: bool
    """Whether it is on another stream than that of the computation."""


class Stream:
    """Operations in order; ``known`` is how many of each other stream it has waited for."""

    def __init__(self, device: SimulatedDevice) -> None:
        self.device = device
        self.num_operations = 0
        self.known: dict[Stream, int] = {}

    def record_event(self) -> Event:
        return Event(self, self.num_operations)

    def wait_event(self, event: Event) -> None:
        self.known[event.stream] = max(self.known.get(event.stream, 0), event.number)


class Event(NamedTuple):
    stream: Stream
    number: int

    def synchronize(self) -> None:
        """Record how many operations the device still has while the host waits."""
        self.stream.device.queued_at_waits.append(self.stream.num_operations - self.number)


class OnDevice(torch.Tensor):
    """A tensor of the device, with its values in ``held``."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor, device: torch.device) -> OnDevice:
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            # torch itself knows no such device, and would ask for its driver.
            device="meta",
        )

    def __init__(self, held: Tensor, device: torch.device) -> None:
        self.held = held
        self._device = device
        self.made_by: tuple[Stream, int] | None = None
        self.users: set[Stream] = set()

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def is_cpu(self) -> bool:
        return False

    @property
    def is_meta(self) -> bool:
        return False

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise RuntimeError(f"{function} outside of the simulated device")

    def record_stream(self, stream: Stream) -> None:
        self.users.add(stream)

    def new_tensor(self, values: Any) -> Tensor:
        return torch.tensor(values, dtype=self.dtype, device=self.device)

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError(f"can't convert {self.device} device type tensor to numpy")

    def __array__(self, *args: Any) -> Any:
        return self.numpy()

    def __repr__(self) -> str:
        return f"OnDevice({tuple(self.shape)}, {self.dtype})"


def _held(tensor: Tensor) -> Tensor:
    return tensor.held if isinstance(tensor, OnDevice) else tensor


def _mapped(change: Callable[[Tensor], Any], values: Any) -> Any:
    """Apply ``change`` to tensors in tuples and lists; torch's own function takes far longer."""
    if isinstance(values, Tensor):
        return change(values)
    if isinstance(values, (tuple, list)):
        return type(values)([_mapped(change, value) for value in values])
    return values


class SimulatedDevice(TorchDispatchMode):
    """Runs the operations, on host memory, and records the transfers."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.transfers: list[Transfer] = []
        self.queued_at_waits: list[int] = []
        self.current = 0
        self.main_stream = self.stream = Stream(self)

    def count(self, kind: str, *, of_at_least: int = 0) -> int:
        """The number of transfers of a kind with as many values."""
        return sum(t.kind == kind and t.num_values >= of_at_least for t in self.transfers)

    def tensor(self, values: Any) -> Tensor:
        """A tensor that was on the device before anything was counted."""
        return self._wrap(torch.as_tensor(values).clone())

    def _is_here(self, device: torch.device) -> bool:
        is_here = device.type in (self.device.type, "meta")
        if is_here and device.index not in (self.device.index, None):
            raise RuntimeError(f"{device} was asked for instead of {self.device}")
        return is_here

    def _wrap(self, held: Tensor) -> OnDevice:
        self._check_type(held.dtype)
        made = OnDevice(held, self.device)
        made.made_by = self.stream, self.stream.num_operations
        return made

    @contextmanager
    def on_stream(self, stream: Stream) -> Iterator[None]:
        before, self.stream = self.stream, stream
        try:
            yield
        finally:
            self.stream = before

    def _check_order(self, tensor: OnDevice) -> None:
        """Refuse what may not be there yet, or may be given to others while it is used."""
        maker, number = tensor.made_by or (self.stream, 0)
        # What is cached was made by an earlier simulated device.
        if maker is not self.stream and maker.device is self:
            if self.stream.known.get(maker, 0) < number:
                raise RuntimeError("one stream uses what another makes without waiting for it")
            if self.stream not in tensor.users:
                raise RuntimeError("the memory may be reused: record_stream was not called")

    def _check_type(self, dtype: torch.dtype | None) -> None:
        if self.device.type == "mps" and dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    def _record(self, kind: str, values: Tensor) -> None:
        is_aside = self.stream is not self.main_stream
        self.transfers.append(Transfer(kind, values.numel(), values.dtype, is_aside))

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        tensors: list[Tensor] = []
        _mapped(tensors.append, (args, *kwargs.values()))
        ours = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
        wanted = kwargs.get("device")
        stays = bool(ours) if wanted is None else self._is_here(torch.device(wanted))
        if not ours and not stays:
            return function(*args, **kwargs)
        self.stream.num_operations += 1
        for tensor in ours:
            self._check_order(tensor)
        self._look(name, args, ours, tensors, wanted, kwargs.get("dtype"))
        if wanted is not None:
            kwargs = {**kwargs, "device": CPU}
        kwargs = {k: v for k, v in kwargs.items() if k not in ("pin_memory", "non_blocking")}
        # Results of operations in place are the operands themselves.
        known = {id(tensor.held): tensor for tensor in ours}
        held_args = _mapped(_held, args)
        held_kwargs = {key: _mapped(_held, value) for key, value in kwargs.items()}
        results = function(*held_args, **held_kwargs)
        if name == "copy_" and not isinstance(args[0], OnDevice):
            return args[0]
        if not stays:
            return results

        def of_device(result: Tensor) -> Tensor:
            return known[id(result)] if id(result) in known else self._wrap(result)

        return _mapped(of_device, results)

    def _look(
        self,
        name: str,
        args: Any,
        ours: list[OnDevice],
        tensors: list[Tensor],
        wanted: Any,
        dtype: torch.dtype | None,
    ) -> None:
        """Record what the host would wait for, and refuse what a device refuses."""
        host = [t for t in tensors if not isinstance(t, OnDevice) and t.dim() > 0]
        if name in ("_to_copy", "copy_"):
            source = args[-1] if name == "copy_" else args[0]
            target = args[0] if name == "copy_" else None
            is_to_host = target is not None and not isinstance(target, OnDevice)
            is_to_host |= target is None and wanted is not None and torch.device(wanted) == CPU
            if not isinstance(source, OnDevice):
                self._record("send", source)
            elif is_to_host:
                self._record("read", source)
                self._check_type(tensors[0].dtype if target is not None else dtype)
            return
        if name == "_local_scalar_dense":
            self._record("read", ours[0])
        elif name in WAITING:
            self._record("wait", ours[0])
        elif name in ("index", "index_put", "index_put_"):
            for index in filter(lambda i: i is not None, args[1]):
                if index.dtype == torch.bool:
                    self._record("wait", index)
                elif not isinstance(index, OnDevice):
                    self._record("send", index)
            return
        if ours and host:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but {name} got "
                f"{[str(t.device) for t in tensors]}"
            )


@contextmanager
def simulated_device(
    kind: str = "cuda",
    *,
    index: int = 0,
    free_bytes: int = 2**33,
    capability: tuple[int, int] = (9, 0),
) -> Iterator[SimulatedDevice]:
    """Let torch have one device of this kind, in this thread."""
    device = SimulatedDevice(torch.device(kind, index))
    is_cuda = kind == "cuda"
    properties = SimpleNamespace(name="simulated", multi_processor_count=132)

    tensor_on_host, as_tensor_on_host = torch.tensor, torch.as_tensor

    # torch fills new tensors before a mode hears of them.
    def tensor(values: Any, *, device: Any = None, **options: Any) -> Tensor:
        return tensor_on_host(values, **options).to(device or CPU)

    def as_tensor(values: Any, *, device: Any = None, **options: Any) -> Tensor:
        made = as_tensor_on_host(values, **options)
        return made if device is None else made.to(device)

    def set_device(index: Any) -> None:
        device.current = index if isinstance(index, int) else index.index

    of_cuda = {
        "is_available": lambda: is_cuda,
        "is_initialized": lambda: is_cuda,
        "device_count": lambda: 4 if is_cuda else 0,
        "_lazy_init": lambda: None,
        "get_device_capability": lambda device=None: capability,
        "get_device_properties": lambda device=None: properties,
        "mem_get_info": lambda device=None: (free_bytes, 2 * free_bytes),
        "set_device": set_device,
        "current_device": lambda: device.current,
        "Stream": lambda device_of_stream: Stream(device),
        "stream": device.on_stream,
        "current_stream": lambda device_of_stream=None: device.stream,
        "empty_cache": lambda: None,
        "synchronize": lambda device=None: None,
    }
    with (
        mock.patch.multiple(torch.cuda, **of_cuda),
        mock.patch.object(torch.mps, "empty_cache"),
        mock.patch.object(pl_mps.MPSAccelerator, "is_available", return_value=not is_cuda),
        mock.patch.object(fabric_mps.MPSAccelerator, "is_available", return_value=not is_cuda),
        mock.patch.object(torch, "tensor", tensor),
        mock.patch.object(torch, "as_tensor", as_tensor),
        # Tensors of inference mode arrive before views of them are recorded.
        mock.patch.object(torch._C, "_InferenceMode", side_effect=lambda mode: torch.no_grad()),
        mock.patch.object(Tensor, "pin_memory", lambda values: values),
        # Parameters are moved by making new ones: an old one cannot become one of another class.
        mock.patch.object(torch.__future__, "_overwrite_module_params_on_conversion", True),
        mock.patch.dict(os.environ),
        device,
    ):
        yield device
