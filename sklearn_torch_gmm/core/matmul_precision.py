"""Products of float32 matrices in float32, whatever precision the caller has set for others.

``torch.set_float32_matmul_precision("high")`` and ``"medium"`` let torch round the factors to TF32
or bfloat16, on GPUs and on some CPUs. A log-density would be off by a tenth of a nat, which the
bounds on the rounding error do not include. torch has one setting for the process: other threads
also compute in full precision while a fit or a prediction runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from sklearn_torch_gmm.core.shared_state import SharedState


@contextmanager
def full_precision_products() -> Iterator[None]:
    """Compute products of float32 matrices in float32 until the last concurrent user is done."""
    if not _full_precision.is_in_use and precision() == "highest":
        # A change by another thread from now on could not be kept out either way.
        yield
        return
    with _full_precision:
        yield


def precision() -> str | None:
    """Precision of float32 products; None if the settings of the backends are not one of torch's.

    torch refuses to name it where they were set one by one, as its later releases recommend.
    """
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


def _take_highest() -> Callable[[], None]:
    before = _Precision()
    torch.set_float32_matmul_precision("highest")

    def restore() -> None:
        # Unless the program has chosen another precision in the meantime.
        if precision() == "highest":
            before.restore()

    return restore


_full_precision = SharedState(_take_highest)


class _Precision:
    """The current settings."""

    def __init__(self) -> None:
        self._name = precision()
        self._of_backends = [(backend, backend.fp32_precision) for backend in _backends()]

    def restore(self) -> None:
        if self._name is not None:
            torch.set_float32_matmul_precision(self._name)
        for backend, value in self._of_backends:
            # A value that is inherited from the setting of all backends must remain so.
            backend.fp32_precision = "none"
            if backend.fp32_precision != value:
                backend.fp32_precision = value


def _backends() -> Iterator[Any]:
    """Return the settings of single backends, which releases before 2.9 do not have."""
    for backend in (torch.backends.cuda, torch.backends.mkldnn):
        products = getattr(backend, "matmul", None)
        if hasattr(products, "fp32_precision"):
            yield products
