"""Batches that are copied to a GPU while it computes with the batches before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import torch

from sklearn_torch_gmm.rows.source import Batch, Batches


def sent_ahead(batches: Batches, device: torch.device) -> Batches:
    """Return the batches of a fit on ``device``, copied ahead if it is a GPU that lacks them.

    Rows that are in memory are on the device already.
    """
    is_needed = device.type == "cuda" and batches.resident_rows is None
    return SentAhead(batches, device) if is_needed else batches


class SentAhead(Batches):
    """Batches in host memory, copied to a CUDA device by a stream of their own.

    The device would otherwise copy between its computations. The next batch is read, and its copy
    begins, before the computation with the last one is launched. Memory that is page-locked is
    copied without the host. At most three batches are on the device: one that it computes with, one
    that has arrived and one on its way.
    """

    def __init__(self, batches: Batches, device: torch.device) -> None:
        self._batches = batches
        self._device = device

    def __len__(self) -> int:
        # Like that of a loader, this raises a TypeError if the number of batches is unknown.
        return len(self._batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Batch]:
        copies = torch.cuda.Stream(self._device)
        ends: deque[torch.cuda.Event] = deque()
        sent: tuple[Batch, torch.cuda.Event] | None = None
        for batch in self._batches:
            if len(ends) == 2:
                # The host would otherwise send all batches before the device is done with the
                # first. Work with the one after it is waiting there.
                ends.popleft().synchronize()
            with torch.cuda.stream(copies):
                following = tuple(t.to(self._device, non_blocking=True) for t in batch)
                arrival = copies.record_event()
            if sent is not None:
                yield self._received(*sent)
                ends.append(torch.cuda.current_stream(self._device).record_event())
            sent = following, arrival
        if sent is not None:
            yield self._received(*sent)

    def _received(self, batch: Batch, arrival: torch.cuda.Event) -> Batch:
        """Let the computation wait for the copy, and the memory be kept until it has ended."""
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(arrival)
        for tensor in batch:
            tensor.record_stream(stream)
        return batch

    def finite(self, *, allow_missing: bool = False) -> Iterator[Batch]:
        """The batches, checked in host memory, and left there."""
        return self._batches.finite(allow_missing=allow_missing)

    def close(self) -> None:
        self._batches.close()
