"""A thread reads the next batch."""

import threading

import pytest
import torch

from sklearn_torch_gmm.rows.read_ahead import ReadAhead


def test_the_next_batch_is_read_while_one_is_worked_on():
    is_reading = threading.Event()

    def read(index):
        if index == 1:
            is_reading.set()
        return (torch.full((1, 1), float(index)),)

    batches = iter(ReadAhead(read, 3))
    next(batches)
    assert is_reading.wait(10)
    assert [batch[0].item() for batch in batches] == [1.0, 2.0]


def test_an_error_of_the_reader_passes_on():
    def read(index):
        if index == 1:
            raise OSError("gone")
        return (torch.zeros(1, 1),)

    batches = iter(ReadAhead(read, 3))
    next(batches)
    with pytest.raises(OSError, match="gone"):
        next(batches)
