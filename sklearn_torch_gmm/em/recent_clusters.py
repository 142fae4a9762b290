"""Clusters that K-means has found lately, for other fits to the same rows.

A search over covariance types fits each number of components to the same rows with the same seed,
once for each type. K-means does not know the type, and takes a quarter to a half of a small fit.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import groupby, islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sklearn_torch_gmm.em.first_m_step import Labels
from sklearn_torch_gmm.em.kmeans import Runs, kmeans_side_by_side
from sklearn_torch_gmm.rows.random_numbers import RandomNumbers
from sklearn_torch_gmm.rows.source import StartingRows

BYTES_OF_RECENT = 2**24
"""Memory for the clusters of all recent runs, 16 MiB: 5 folds of 80,000 rows for 20 numbers of
components take half of it."""

BYTES_OF_KEY = 2**14
"""Memory that a group of runs counts for in addition to its labels, 16 KiB: so many times more than
it takes that a thousand groups are kept, which are counted in 0.1 ms."""

BYTES_AT_ONCE = 2**20
"""Size of the pieces whose hashes identify an array: they stay in the cache."""

LabelArray = npt.NDArray[np.integer[Any]]


class Key(NamedTuple):
    """The facts that determine the clusters of runs that draw from one random state in turn."""

    data: int
    """Hash of all values, shapes and types: two data sets have the same by a chance of 2^-64."""
    random: int
    """Hash of the seed, or of the random state if numbers may have been drawn from it."""
    num_components: int
    num_runs: int


class RecentClusters:
    """The latest clusters that fit into memory, in the order of their use, for all threads."""

    def __init__(self) -> None:
        self._found: OrderedDict[Key, list[LabelArray]] = OrderedDict()
        # A signal handler, which may fit, interrupts the thread that holds it.
        self._lock = threading.RLock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        """In the child of a fork, the thread that held it does not exist."""
        self._lock = threading.RLock()

    @property
    def num_bytes(self) -> int:
        """The memory that all clusters count for."""
        return sum(map(_bytes_of, self._found.values()))

    def find(self, key: Key) -> list[LabelArray] | None:
        """Return the labels ``[M]`` of each run, or None if they are not known."""
        with self._lock:
            found = self._found.get(key)
            if found is not None:
                self._found.move_to_end(key)
            return found

    def add(self, key: Key, runs: list[LabelArray]) -> None:
        """Keep the labels ``[M]`` of each run, and forget those that were not used for longest."""
        with self._lock:
            self._found[key] = runs
            self._found.move_to_end(key)
            excess = self.num_bytes - BYTES_OF_RECENT
            while excess > 0:
                _, forgotten = self._found.popitem(last=False)
                excess -= _bytes_of(forgotten)

    def clear(self) -> None:
        """Forget all clusters."""
        with self._lock:
            self._found.clear()


recent_clusters = RecentClusters()


def recent_or_new(
    data: StartingRows, runs: Sequence[tuple[int, RandomNumbers]]
) -> Generator[Labels]:
    """Yield the clusters of several runs in order, as :func:`kmeans_side_by_side` does.

    The random numbers have seeds, and nobody draws from them afterwards: for clusters that are
    known, none are drawn.
    """
    groups = [list(group) for _, group in groupby(runs, lambda run: (run[0], id(run[1])))]
    most = max(map(len, groups), default=0)
    if most == 0 or BYTES_OF_KEY + most * len(data.rows) > BYTES_OF_RECENT:
        yield from kmeans_side_by_side(data, _states(runs))
        return
    of_data = _hash_of_data(data)
    keys = [Key(of_data, _hash_of_random(own[0][1]), own[0][0], len(own)) for own in groups]
    known = [recent_clusters.find(key) for key in keys]
    new = [run for own, labels in zip(groups, known, strict=True) if labels is None for run in own]
    with closing(kmeans_side_by_side(data, _states(new))) as found:
        for key, labels in zip(keys, known, strict=True):
            if labels is None:
                yield from _kept(key, islice(found, key.num_runs))
            else:
                yield from (Labels(one.astype(np.int32)) for one in labels)


def _kept(key: Key, found: Iterator[Labels]) -> Generator[Labels]:
    kind, labels = np.min_scalar_type(key.num_components - 1), []
    for one in found:
        labels.append(one.labels.astype(kind))
        # Nothing after the last `yield` would run if no more labels are asked for.
        if len(labels) == key.num_runs and not any(_has_empty(key, own) for own in labels):
            recent_clusters.add(key, labels)
        yield one


def _has_empty(key: Key, labels: LabelArray) -> bool:
    """Whether a component has no rows: K-means has warned of it, and has to warn again."""
    return not np.bincount(labels, minlength=key.num_components).all()


def _hash_of_data(data: StartingRows) -> int:
    parts = [data.rows] if data.weights is None else [data.rows, data.weights]
    return hash(tuple((part.shape, part.dtype.str, *_hashes(part)) for part in parts))


def _hashes(values: npt.NDArray[Any]) -> Iterator[int]:
    length = max(1, BYTES_AT_ONCE // values[0].nbytes)
    for begin in range(0, len(values), length):
        yield hash(values[begin : begin + length].tobytes())


def _states(runs: Sequence[tuple[int, RandomNumbers]]) -> Runs:
    return [(num_components, random.state) for num_components, random in runs]


def _hash_of_random(random: RandomNumbers) -> int:
    if random.is_untouched:
        return hash(("seed", random.seed))
    state = random.state.get_state(legacy=False)["state"]
    return hash((state["key"].tobytes(), state["pos"]))


def _bytes_of(runs: Sequence[LabelArray]) -> int:
    return BYTES_OF_KEY + sum(labels.nbytes for labels in runs)
