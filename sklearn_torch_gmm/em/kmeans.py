"""scikit-learn's K-means, for one initialization or for many in parallel.

A run on few rows hardly gains from a second thread, which waits at the end of each iteration. Many
initializations keep all cores busy with one run each, and draw the same random numbers as in turn.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from itertools import islice
from threading import Event
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn import config_context, get_config
from sklearn.cluster import KMeans, kmeans_plusplus

from sklearn_torch_gmm._private_parts import fit_unrecorded
from sklearn_torch_gmm.core.processes import is_in_fork
from sklearn_torch_gmm.em.first_m_step import Labels
from sklearn_torch_gmm.em.offsets import KEEPS_HALF, origin_of
from sklearn_torch_gmm.em.threads import (
    blas_threads_as_before,
    libraries,
    one_blas_thread,
    one_openmp_thread,
)
from sklearn_torch_gmm.rows.source import StartingRows

Runs = Sequence[tuple[int, np.random.RandomState]]
"""The number of components and the random state of each run; runs with one state draw in turn."""

BYTES_SIDE_BY_SIDE = 2**28
"""Memory for all parallel runs together, 256 MiB; with twice as much, up to twice as many run at
once. A single run that takes this much has enough rows for all cores."""

BYTES_OF_LABELS = 2**24
"""Memory for the labels of parallel runs that wait to be used, 16 MiB, unless two runs need more.

They are used when no run is left in the threads: both at once would slow each other down by a sixth
to a third. With half as much, threads would wait for the last run twice as often.
"""

FEWEST_SIDE_BY_SIDE = 2**18
"""Multiplications of an iteration up to which runs follow each other.

They spend most of their time in Python, one at a time; in threads they take up to 1.5 times as
long. With twice the value, sweeps of 8,000 rows would take a tenth longer.
"""

LARGEST_OF_ONE_BLAS_THREAD = 2**18
"""Multiplications of a product up to which OpenBLAS itself wakes no other thread."""

LARGEST_OF_ONE_THREAD = 2**21
"""Multiplications of an iteration up to which one thread of OpenMP is enough, by measurement: with
more threads, waiting for them would take longer than the work that they save."""

EXTRA_NUMBERS_PER_ROW = 16
"""Numbers for each row that a run stores in addition to its copy of the rows, most of them while it
selects the first means."""


def squarable(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return rows whose squared distances neither overflow when summed nor underflow.

    Rows out of range are multiplied by a power of two, which changes neither their precision nor
    the clusters.
    """
    limits = np.finfo(rows.dtype)
    largest = max(float(rows.max()), -float(rows.min()))
    lower = math.sqrt(float(limits.tiny)) / float(limits.eps)
    upper = math.sqrt(float(limits.max) / (4.0 * rows.size))
    if largest == 0.0 or lower <= largest <= upper:
        return rows
    _, exponent = math.frexp(largest / (upper if largest > upper else lower))
    if exponent == 0:
        return rows
    return np.asarray(np.ldexp(rows, -exponent))


def kmeans(data: StartingRows, num_components: int, random_state: np.random.RandomState) -> Labels:
    """Return the clusters of K-means."""
    model = KMeans(n_clusters=num_components, n_init=1, random_state=random_state)
    with _threads_for(data, num_components):
        fit_unrecorded(model, squarable(data.rows), sample_weight=data.weights)
        return Labels(model.labels_)


def kmeans_plusplus_indices(
    data: StartingRows, num_components: int, random_state: np.random.RandomState
) -> npt.NDArray[np.intp]:
    """Return the indices of the rows that K-means++ selects."""
    rows = squarable(data.rows)
    # K-means itself subtracts the mean, but its seeding does not.
    origin = origin_of(rows, KEEPS_HALF)
    if origin.any():
        rows = rows - origin
    with _threads_for(data, num_components):
        _, indices = kmeans_plusplus(
            rows, num_components, sample_weight=data.weights, random_state=random_state
        )
    return np.asarray(indices)


def _blas_threads_for(data: StartingRows, num_components: int) -> AbstractContextManager[None]:
    # K-means++ considers this many rows for each mean that it selects; K-means itself takes one
    # thread of BLAS.
    candidates = 2 + int(math.log(num_components))
    is_large = data.rows.size * candidates > LARGEST_OF_ONE_BLAS_THREAD
    return one_blas_thread() if is_large else blas_threads_as_before()


@contextmanager
def _threads_for(data: StartingRows, num_components: int) -> Iterator[None]:
    with ExitStack() as limits:
        limits.enter_context(_blas_threads_for(data, num_components))
        # In a fork, K-means would wait for threads that have run K-means in its parent.
        if data.rows.size * num_components <= LARGEST_OF_ONE_THREAD or is_in_fork():
            limits.enter_context(one_openmp_thread())
        yield


def kmeans_side_by_side(data: StartingRows, runs: Runs) -> Generator[Labels]:
    """Yield the clusters of several runs in order, the same as from :func:`kmeans` in turn.

    A generator that is not exhausted needs to be closed.
    """
    cores = torch.get_num_threads()
    bytes_per_row = data.rows.itemsize * (data.rows.shape[1] + EXTRA_NUMBERS_PER_ROW)
    workers = min(cores, len(runs), BYTES_SIDE_BY_SIDE // (bytes_per_row * len(data.rows)))
    largest = max((num_components for num_components, _ in runs), default=1)
    if workers < 2 or data.rows.size * largest <= FEWEST_SIDE_BY_SIDE:
        # Set once, since it takes a separate thread.
        with _blas_threads_for(data, largest):
            for num_components, random_state in runs:
                yield kmeans(data, num_components, random_state)
        return
    data = data._replace(rows=squarable(data.rows))
    has_drawn: dict[int, Event] = {}
    is_over = Event()
    todo = iter(runs)
    most = max(workers, BYTES_OF_LABELS // (np.dtype(np.int32).itemsize * len(data.rows)))
    # Found once here, since threads may wait for each other while they look up libraries.
    libraries("openmp")
    pool = ThreadPoolExecutor(workers)

    def submit(num_components: int, random_state: np.random.RandomState) -> Future[Labels]:
        before = has_drawn.get(id(random_state))
        run = _Run(data, num_components, random_state, before, is_over)
        has_drawn[id(random_state)] = run.has_drawn
        threads, config = cores // workers, get_config()
        return pool.submit(copy_context().run, run.labels, threads, config)

    with one_blas_thread():
        try:
            while running := [submit(*run) for run in islice(todo, most)]:
                yield from [future.result() for future in running]
        except BaseException:
            # K-means cannot be interrupted: its threads end later, but draw no more.
            is_over.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()


@dataclass
class _Run:
    """One of several runs, in its own thread."""

    data: StartingRows
    num_components: int
    random_state: np.random.RandomState
    may_draw: Event | None
    """Set once the run before has drawn its numbers from the same random state."""
    is_over: Event
    """Set if nobody waits for the labels any more."""
    has_drawn: Event = field(default_factory=Event)

    def labels(self, num_threads: int, config: dict[str, Any]) -> Labels:
        """Return the clusters, with this many threads of OpenMP for the current thread."""
        model = KMeans(n_clusters=self.num_components, n_init=1, init=self._first_means)
        try:
            # The run may outlive the limit of the caller, and restore the value found under it.
            with (
                blas_threads_as_before(),
                config_context(**config),
                libraries("openmp").limit(limits=num_threads),
            ):
                fit_unrecorded(model, self.data.rows, sample_weight=self.data.weights)
                return Labels(model.labels_)
        finally:
            # Other runs must not wait for a run that has failed.
            self.has_drawn.set()

    def _first_means(
        self, rows: npt.NDArray[Any], num_components: int, random_state: Any
    ) -> npt.NDArray[Any]:
        """Wait for this run's turn, and return the means that K-means would select itself."""
        if self.may_draw is not None:
            self.may_draw.wait()
        if self.is_over.is_set():
            # The random numbers are the caller's again.
            raise CancelledError
        means, _ = kmeans_plusplus(
            rows, num_components, sample_weight=self.data.weights, random_state=self.random_state
        )
        self.has_drawn.set()
        return means  # type: ignore[no-any-return]
