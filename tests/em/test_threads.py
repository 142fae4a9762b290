"""BLAS and OpenMP have one thread where it is wanted, and what they had before elsewhere."""

from _thread import start_new_thread
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from threading import Event, Thread, active_count, current_thread, main_thread
from time import sleep

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sklearn_torch_gmm import GaussianMixture as TorchMixture
from sklearn_torch_gmm._private_parts import setter_of_mkl_threads
from sklearn_torch_gmm.core.e_step import EXPONENTIAL
from sklearn_torch_gmm.em import estimation as estimation_module
from sklearn_torch_gmm.em.iterations import Iterations
from sklearn_torch_gmm.em.settings import LoopSettings, StartSettings
from sklearn_torch_gmm.em.threads import (
    FEW_MULTIPLICATIONS,
    blas_threads_as_before,
    libraries,
    one_blas_thread,
    one_openmp_thread,
)
from sklearn_torch_gmm.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn_torch_gmm.rows.in_memory import ArrayRows
from sklearn_torch_gmm.training.fit import fit_mixture
from tests.em.settings import fit_settings


def counts(kind):
    pools = [pool for pool in threadpool_info() if pool["user_api"] == kind]
    return {pool["filepath"]: pool["num_threads"] for pool in pools}


def is_one():
    return set(counts("blas").values()) <= {1}


def test_it_is_one_inside_and_as_before_outside():
    before = counts("blas"), counts("openmp")
    with one_blas_thread():
        assert is_one()
        assert counts("openmp") == before[1]
    assert (counts("blas"), counts("openmp")) == before


@pytest.mark.parametrize("number", [0, 2], ids=["as OpenMP", "of its own"])
def test_mkl_has_one_thread_where_openmp_has(number):
    set_threads = setter_of_mkl_threads()
    if set_threads is None:
        pytest.skip("MKL is not a part of torch's library")
    first = set_threads(number)
    try:
        with one_openmp_thread():
            assert set_threads(1) == 1
        assert set_threads(number) == number
    finally:
        set_threads(first)


def test_it_is_put_back_after_an_error():
    before = counts("blas")
    with pytest.raises(KeyError), one_blas_thread():
        raise KeyError
    assert counts("blas") == before


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first in, first out", "last in"])
def test_whoever_is_done_last_puts_back_what_the_first_has_found(order):
    before = counts("blas")
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        threads, uses = (one, other), (ExitStack(), ExitStack())
        for thread, use in zip(threads, uses, strict=True):
            thread.submit(use.enter_context, one_blas_thread()).result()
            assert is_one()
        threads[order[0]].submit(uses[order[0]].close).result()
        assert is_one()
        threads[order[1]].submit(uses[order[1]].close).result()
    assert counts("blas") == before


def test_limits_of_others_that_overlap_leave_the_number_alone():
    # As by K-means in several threads: the second one finds the limit of the first.
    before = counts("blas")
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        threads, uses = (one, other), (ExitStack(), ExitStack())
        for thread, use in zip(threads, uses, strict=True):
            thread.submit(use.enter_context, blas_threads_as_before()).result()
            limit = thread.submit(lambda: libraries("blas").limit(limits=1)).result()
            thread.submit(use.enter_context, limit).result()
        for thread, use in zip(threads, uses, strict=True):
            thread.submit(use.close).result()
    assert counts("blas") == before


def test_a_use_that_cannot_begin_keeps_nothing(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    before = counts("blas"), active_count()
    with monkeypatch.context() as patch:
        patch.setattr(Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"), one_blas_thread():
            pass
    with one_blas_thread():
        assert is_one()
        assert active_count() == before[1] + 1
    assert (counts("blas"), active_count()) == before


def test_an_interrupt_while_the_limit_is_set_does_not_keep_it(monkeypatch):
    def interrupt(event, timeout=None):
        if current_thread() is main_thread():
            raise KeyboardInterrupt
        return wait(event, timeout)

    before, wait = counts("blas"), Event.wait
    with monkeypatch.context() as patch:
        # A thread that starts waits for an event of its own.
        patch.setattr(Thread, "start", lambda thread: start_new_thread(thread.run, ()))
        patch.setattr(Event, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt), one_blas_thread():
            pass
        sleep(0.1)
    assert counts("blas") == before


def test_openmp_is_one_inside_and_as_before_outside():
    before = counts("blas")
    with libraries("openmp").limit(limits=3):
        with one_openmp_thread():
            assert set(counts("openmp").values()) == {1}
            assert counts("blas") == before
        assert set(counts("openmp").values()) == {3}
        with pytest.raises(KeyError), one_openmp_thread():
            raise KeyError
        assert set(counts("openmp").values()) == {3}


# Two features and three components: 1 + 2 + 3 sums and an exponential for each.
@pytest.mark.parametrize("more", [0, 1])
def test_little_data_have_one_thread_and_leave_the_number_alone(rng, monkeypatch, more):
    X = rng.normal(size=(FEW_MULTIPLICATIONS // ((6 + EXPONENTIAL) * 3) + more, 2))
    seen = []
    m_step = estimation_module.m_step

    def spy(*args, **kwargs):
        seen.append(set(counts("openmp").values()))
        return m_step(*args, **kwargs)

    monkeypatch.setattr(estimation_module, "m_step", spy)
    start = StartSettings("random_from_data")
    settings = fit_settings(3, "full", start, np.random.RandomState(0), max_iter=3, tolerance=0.0)
    with libraries("openmp").limit(limits=3):
        fit_mixture(ArrayRows(X), settings)
        assert set(counts("openmp").values()) == {3}
        # The first step is that of the start.
        assert seen[1:] == [{3} if more else {1}] * 3


def test_the_threads_of_a_stream_are_left_alone(rng, monkeypatch):
    seen = []
    m_step = Iterations.m_step

    def spy(self, *args):
        seen.append(set(counts("openmp").values()))
        return m_step(self, *args)

    monkeypatch.setattr(Iterations, "m_step", spy)
    start = StartSettings("random_from_data")
    settings = fit_settings(2, "full", start, np.random.RandomState(0), max_iter=1)
    with libraries("openmp").limit(limits=3):
        fit_mixture(ArrayRows(rng.normal(size=(50, 2))), settings)
        monkeypatch.setattr(ArrayRows, "batches", not_resident(ArrayRows.batches))
        by_lightning = replace(settings, loop=LoopSettings(batch_size=10, max_iter=1))
        fit_mixture(ArrayRows(rng.normal(size=(50, 2))), by_lightning)
    assert seen == [{1}, {3}]


def not_resident(batches):
    def changed(self, *args):
        result = batches(self, *args)
        result.resident_rows = None
        return result

    return changed


class ThreadsOfOperations(TorchDispatchMode):
    """Records the number of threads of all operations on many values, apart from views."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)]
        if not function.is_view and max((one.numel() for one in tensors), default=0) >= 2400:
            self.seen[function._schema.name, torch.get_num_threads()] += 1
        return result


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("cls", [GaussianMixture, BayesianGaussianMixture])
def test_all_of_a_small_fit_has_one_thread(rng, cls, covariance_type):
    """Also before the first pass, threads that others keep spinning would delay it by 30 ms."""
    X = rng.normal(size=(600, 4)) + 3.0 * rng.integers(2, size=(600, 1))
    mixture = cls(n_components=2, covariance_type=covariance_type, random_state=0)
    with libraries("openmp").limit(limits=3), ThreadsOfOperations() as operations:
        mixture.fit(X)
        assert torch.get_num_threads() == 3
    assert sum(operations.seen.values()) > 20
    assert {threads for _, threads in operations.seen} == {1}, operations.seen


def test_a_small_step_of_partial_fit_has_one_thread(rng):
    mixture = TorchMixture(2, random_state=0).partial_fit(rng.normal(size=(600, 4)))
    with libraries("openmp").limit(limits=3), ThreadsOfOperations() as operations:
        mixture.partial_fit(rng.normal(size=(600, 4)))
    assert {threads for _, threads in operations.seen} == {1}, operations.seen
