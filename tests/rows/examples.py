"""Rows of every kind, wrong ones too, and fits to them."""

import multiprocessing
import time

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from sklearn_torch_gmm import GaussianMixture

NUM_ROWS = 307  # prime


def sorted_by_component():
    """Of two components, one after the other."""
    rng = np.random.default_rng(0)
    return np.vstack([rng.normal(size=(200, 3)), rng.normal(size=(NUM_ROWS - 200, 3)) + 2.5])


class Stream(IterableDataset):
    """Rows whose number nobody knows, and how many of them were read."""

    def __init__(self, rows):
        self.rows = rows
        self.read = 0

    def __iter__(self):
        for row in self.rows:
            self.read += 1
            yield row


class SplittingStream(Stream):
    """Knows how to give a part of itself."""

    def __init__(self, rows, index=0, num_shards=1):
        super().__init__(rows)
        self.part = slice(index, None, num_shards)

    def shard(self, num_shards, index):
        return SplittingStream(self.rows, index, num_shards)

    def __iter__(self):
        return iter(self.rows[self.part])


class Store:
    """What h5py and zarr have in common."""

    def __init__(self, rows):
        self._rows = rows
        self.shape = rows.shape
        self.read = []

    def __getitem__(self, place):
        self.read.append((place.start, place.stop))
        return self._rows[place]


class ManyAtOnce(Dataset):
    """Gives the rows of many indices at once."""

    def __init__(self, rows):
        self.rows = rows
        self.calls = 0

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]

    def __getitems__(self, indices):
        self.calls += 1
        return [self.rows[index] for index in indices]


class Map(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Failing(Map):
    def __getitem__(self, index):
        if index == 200:
            raise OSError("the disk is gone")
        return self.items[index]


class OneShot(IterableDataset):
    """Wrong: the second iteration finds nothing left."""

    def __init__(self, rows):
        self.iterator = iter(rows)

    def __iter__(self):
        return self.iterator


def mapped(X, folder):
    np.save(folder / "X.npy", X)
    return np.load(folder / "X.npy", mmap_mode="r")


def loader(X, **options):
    return DataLoader(TensorDataset(torch.tensor(X), torch.zeros(len(X))), **options)


def fit(X, start, **options):
    defaults = {"init_means": start, "convergence_tolerance": 1e-6, "random_state": 0}
    return GaussianMixture(2, **defaults | options).fit(X)


def assert_same_fit(actual, expected):
    assert actual.n_iter_ == expected.n_iter_
    for name in ("weights_", "means_", "covariances_"):
        np.testing.assert_allclose(
            getattr(actual, name), getattr(expected, name), rtol=1e-8, atol=1e-8
        )


def no_workers_are_left():
    for _ in range(100):
        # Worker processes of joblib stay, and belong to other tests.
        if not [p for p in multiprocessing.active_children() if "Loky" not in p.name]:
            return True
        time.sleep(0.05)
    return False
