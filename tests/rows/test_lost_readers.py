"""A reader that dies is an error that says so, and one that blocks does not hold the fit."""

import multiprocessing
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from sklearn_torch_gmm import GaussianMixture
from tests.rows.examples import no_workers_are_left

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

X = np.random.default_rng(0).normal(size=(400, 2))


def interrupt():
    raise KeyboardInterrupt


def cancel():
    raise GeneratorExit


DEATHS = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGTERM": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "SIGSEGV": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "os._exit(0)": lambda: os._exit(0),
    "os._exit(3)": lambda: os._exit(3),
    "sys.exit()": sys.exit,
    "KeyboardInterrupt": interrupt,
    "GeneratorExit": cancel,
}

# torch notices some of these deaths only when it looks for them, every five seconds.
deaths = pytest.mark.parametrize(
    "how",
    [
        pytest.param(how, id=name, marks=[] if name == "sys.exit()" else pytest.mark.faults)
        for name, how in DEATHS.items()
    ],
)


class Table(Dataset):
    """Does something when a worker reads its 250th row."""

    def __init__(self, act):
        self.act, self.number = act, 0

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        self.count()
        return X[index]

    def count(self):
        self.number += get_worker_info() is not None
        if self.number == 250:
            self.act()


class Stream(Table, IterableDataset):
    def __iter__(self):
        for row in X:
            self.count()
            yield row


def fit(data, **options):
    mixture = GaussianMixture(1, convergence_tolerance=0, batch_size=50, **options)
    return mixture.set_params(trainer_params={"max_epochs": 3}).fit(data)


# torch prints the tracebacks of such workers.
@pytest.mark.usefixtures("capfd")
@deaths
@pytest.mark.parametrize("kind", [Table, Stream])
def test_a_worker_that_dies_is_an_error(kind, how):
    with pytest.raises(RuntimeError, match=r"DataLoader.*(exited|ended|killed)"):
        fit(kind(how), num_workers=1)
    assert no_workers_are_left()


@pytest.mark.usefixtures("capfd")
@deaths
def test_a_worker_of_a_loader_that_dies_is_an_error(how):
    loader = DataLoader(Table(how), batch_size=50, num_workers=1)
    with pytest.raises(RuntimeError, match=r"DataLoader.*(exited|ended|killed)"):
        fit(loader)
    assert no_workers_are_left()


def test_an_error_of_the_data_keeps_its_type():
    def fail():
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        fit(DataLoader(Table(fail), batch_size=50, num_workers=1))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_pass_that_ends_early_is_an_error(num_workers):
    """Otherwise the fit would be one to a part of the rows."""

    def stop(batch):
        if batch[0, 0] == X[200, 0]:
            raise StopIteration
        return batch

    loader = DataLoader(
        torch.tensor(X),
        batch_size=50,
        num_workers=num_workers,
        collate_fn=lambda rows: stop(torch.stack(rows)),
    )
    with pytest.raises(ValueError, match="4 of 8 batches"):
        fit(loader)


class BlockingStore:
    """A file whose server no longer answers."""

    shape = X.shape

    def __init__(self):
        self.is_blocking = threading.Event()
        self.calls = 0

    def __getitem__(self, place):
        self.calls += 1
        if self.calls > 20:
            self.is_blocking.set()
            threading.Event().wait()
        return X[place]


class BlockingTable(Table):
    def __init__(self):
        super().__init__(self.block)
        self.is_blocking = multiprocessing.Event()

    def block(self):
        self.is_blocking.set()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(1)


@pytest.mark.parametrize("kind", [BlockingStore, BlockingTable])
def test_an_interrupt_ends_a_fit_whose_store_blocks(kind):
    data, times = kind(), []

    def interrupt_fit():
        data.is_blocking.wait()
        times.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt_fit)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        fit(data, num_workers=0 if kind is BlockingStore else 1)
    assert time.monotonic() - times[0] < 2
    assert no_workers_are_left()
    thread.join()
