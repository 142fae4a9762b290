"""Copies on a stream of their own, on a device that is simulated."""

import weakref
from collections import Counter

import pytest
import torch

from sklearn_torch_gmm.rows.in_memory import SlicedBatches
from sklearn_torch_gmm.rows.sent_ahead import SentAhead, sent_ahead
from tests.simulated_device import OnDevice, simulated_device

CUDA = torch.device("cuda", 0)
ROWS = torch.arange(40.0).view(20, 2)


class Logged(SlicedBatches):
    """Batches of four rows in host memory, which are read one by one."""

    def __init__(self, log):
        super().__init__(ROWS, torch.ones(20), batch_size=4, prepare=lambda values: values)
        self.log = log

    def __iter__(self):
        for index in range(len(self)):
            self.log.append(f"read {index}")
            yield self._batch(index)


def test_the_next_batch_is_on_its_way_before_one_is_worked_on():
    log, found = [], []
    with simulated_device() as device:
        for index, (rows, weights) in enumerate(SentAhead(Logged(log), CUDA)):
            assert isinstance(weights, OnDevice)
            assert device.count("send") == 2 * min(index + 2, 5)
            log.append(f"work {index}")
            found.append(rows * 1.0)
        assert all(transfer.is_aside for transfer in device.transfers)
    torch.testing.assert_close(torch.cat([rows.held for rows in found]), ROWS)
    order = "read 0,read 1,work 0,read 2,work 1,read 3,work 2,read 4,work 3,work 4"
    assert log == order.split(",")


def test_three_batches_are_on_the_device_and_it_never_waits_for_the_host():
    alive, most = weakref.WeakSet(), []
    with simulated_device() as device:
        for rows, _ in SentAhead(Logged([]), CUDA):
            alive.add(rows)
            most.append(len(alive))
            rows.sum()
            del rows
        # When the host waits for a batch to be done with, the next one is waiting on the device.
        assert device.queued_at_waits == [1, 1]
    # Those that the device still works with are kept by their stream, not by Python.
    assert max(most) <= 2


def test_a_pass_that_is_not_waited_for_is_noticed():
    """By the simulated device, on which the other tests rely."""
    with simulated_device() as device:
        side = torch.cuda.Stream(CUDA)
        with torch.cuda.stream(side):
            rows = ROWS.to(CUDA)
        with pytest.raises(RuntimeError, match="without waiting"):
            rows.sum()
        device.stream.wait_event(side.record_event())
        with pytest.raises(RuntimeError, match="record_stream"):
            rows.sum()
        rows.record_stream(device.stream)
        assert rows.sum().item() == ROWS.sum()


def test_only_what_is_not_on_a_gpu_is_sent():
    resident = SlicedBatches(ROWS, batch_size=4)
    streamed = Logged([])
    assert sent_ahead(resident, CUDA) is resident
    assert sent_ahead(streamed, torch.device("cpu")) is streamed
    assert sent_ahead(streamed, torch.device("mps")) is streamed
    assert len(sent_ahead(streamed, CUDA)) == 5


def test_rows_are_checked_where_they_are():
    rows = ROWS.clone()
    rows[7, 1] = torch.nan
    batches = SentAhead(SlicedBatches(rows, batch_size=4), CUDA)
    assert "sample 3 of batch 1, which is sample 7" in str(batches.nonfinite_error())


def test_readers_are_closed():
    closed = Counter()
    batches = Logged([])
    batches.close = lambda: closed.update(["reader"])
    with SentAhead(batches, CUDA):
        pass
    assert closed["reader"] == 1
