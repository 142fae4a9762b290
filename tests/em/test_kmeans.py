"""Runs side by side find what they find one after another, and leave nothing behind."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest
import torch
from sklearn import config_context, get_config
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_info

from sklearn_torch_gmm.em import kmeans as module
from sklearn_torch_gmm.em.kmeans import kmeans_side_by_side
from sklearn_torch_gmm.rows.source import StartingRows

SIZES = [1, 2, 5, 9]
STARTS = 3


@pytest.fixture
def X(rng):
    return rng.normal(size=(500, 3)) + 3.0 * rng.integers(3, size=(500, 1))


@pytest.fixture(autouse=True)
def four_cores(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(module, "FEWEST_SIDE_BY_SIDE", 0)


def runs_for(sizes=SIZES):
    """Each size draws from a random state of its own."""
    states = [np.random.RandomState(size) for size in sizes]
    return [(size, state) for size, state in zip(sizes, states, strict=True) for _ in range(STARTS)]


def thread_counts():
    return {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}


def blas_counts():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def openmp_counts():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp"}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_they_find_what_scikit_learn_finds_one_after_another(X, dtype, weighted):
    weights = np.random.default_rng(1).uniform(0.5, 2.0, size=500) if weighted else None
    data = StartingRows(X.astype(dtype), weights)
    runs, alone = runs_for(), runs_for()
    found = list(kmeans_side_by_side(data, runs))
    assert len(found) == len(runs)
    for labels, (size, random_state) in zip(found, alone, strict=True):
        model = KMeans(size, n_init=1, random_state=random_state)
        model.fit(data.rows, sample_weight=weights)
        np.testing.assert_array_equal(labels.labels, model.labels_)
    for (_, actual), (_, expected) in zip(runs, alone, strict=True):
        assert actual.randint(2**31) == expected.randint(2**31)


def test_they_really_run_in_threads_unless_one_fills_the_memory(X, monkeypatch):
    pools = []

    class Counted(ThreadPoolExecutor):
        def __init__(self, workers):
            pools.append(workers)
            super().__init__(workers)

    monkeypatch.setattr(module, "ThreadPoolExecutor", Counted)
    data = StartingRows(X)
    # A copy of three features and sixteen numbers beside them, in float64.
    for room in (3, 2, 1):
        monkeypatch.setattr(module, "BYTES_SIDE_BY_SIDE", room * 500 * 19 * 8)
        assert len(list(kmeans_side_by_side(data, runs_for()))) == len(runs_for())
    assert pools == [3, 2]


def test_the_numbers_of_threads_are_put_back(X):
    before = thread_counts()
    with closing(kmeans_side_by_side(StartingRows(X), runs_for())) as found:
        next(found)
        assert blas_counts() == {1}
    assert thread_counts() == before
    for _ in range(5):
        list(kmeans_side_by_side(StartingRows(X), runs_for()))
    assert thread_counts() == before


def test_the_settings_of_scikit_learn_are_the_callers(X, monkeypatch):
    seen = []
    pick = module.kmeans_plusplus

    def spy(*args, **kwargs):
        seen.append(get_config()["working_memory"])
        return pick(*args, **kwargs)

    monkeypatch.setattr(module, "kmeans_plusplus", spy)
    with config_context(working_memory=77):
        list(kmeans_side_by_side(StartingRows(X), runs_for()))
    assert seen == [77] * len(runs_for())


# Three rows are looked at for each of four means: three products of the rows with eight features.
@pytest.mark.parametrize(("num_rows", "is_limited"), [(2**18 // 24, False), (11_000, True)])
@pytest.mark.parametrize("start", [module.kmeans, module.kmeans_plusplus_indices])
def test_blas_is_kept_to_one_thread_where_it_would_take_more(
    rng, monkeypatch, start, num_rows, is_limited
):
    seen = []
    limit = module.one_blas_thread
    monkeypatch.setattr(module, "one_blas_thread", lambda: (seen.append(True), limit())[1])
    start(StartingRows(rng.normal(size=(num_rows, 8)), None), 4, np.random.RandomState(0))
    assert bool(seen) == is_limited


@pytest.mark.parametrize(("num_rows", "is_limited"), [(2**19 // 8, True), (2**19 // 8 + 1, False)])
@pytest.mark.parametrize("start", [module.kmeans, module.kmeans_plusplus_indices])
def test_few_rows_have_one_thread_and_leave_their_number_alone(
    rng, monkeypatch, start, num_rows, is_limited
):
    seen = []
    kmeans_plusplus, fit = module.kmeans_plusplus, KMeans.fit

    def spy(function):
        def spied(*args, **kwargs):
            seen.append(openmp_counts())
            return function(*args, **kwargs)

        return spied

    monkeypatch.setattr(module, "kmeans_plusplus", spy(kmeans_plusplus))
    monkeypatch.setattr(KMeans, "fit", spy(fit))
    with module.libraries("openmp").limit(limits=3):
        start(StartingRows(rng.normal(size=(num_rows, 8)), None), 4, np.random.RandomState(0))
        assert openmp_counts() == {3}
    assert seen == [{1} if is_limited else {3}]


def test_an_error_is_raised_and_nobody_waits_for_the_run_that_failed(X):
    X[0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        list(kmeans_side_by_side(StartingRows(X), runs_for()))


def test_no_more_runs_are_begun_than_have_room_for_their_labels(X, monkeypatch):
    begun = []

    class Counted(ThreadPoolExecutor):
        def submit(self, *arguments):
            begun.append(super().submit(*arguments))
            return begun[-1]

    monkeypatch.setattr(module, "ThreadPoolExecutor", Counted)
    runs = runs_for(range(1, 11))
    for room, expected in ((5, 5), (0, 4)):
        monkeypatch.setattr(module, "BYTES_OF_LABELS", room * 4 * 500)
        begun.clear()
        with closing(kmeans_side_by_side(StartingRows(X), runs)) as found:
            for number in range(1, expected + 1):
                next(found)
                assert len(begun) == expected, number
                # None is running while the caller works with the labels.
                assert all(run.done() for run in begun)
            next(found)
            assert len(begun) == 2 * expected


def test_few_rows_need_no_threads(X, monkeypatch):
    monkeypatch.setattr(module, "ThreadPoolExecutor", None)
    monkeypatch.setattr(module, "FEWEST_SIDE_BY_SIDE", X.size * max(SIZES))
    assert len(list(kmeans_side_by_side(StartingRows(X), runs_for()))) == len(runs_for())
    monkeypatch.setattr(module, "FEWEST_SIDE_BY_SIDE", X.size * max(SIZES) - 1)
    with pytest.raises(TypeError):
        next(kmeans_side_by_side(StartingRows(X), runs_for()))


def test_an_interrupt_does_not_wait_for_runs_that_cannot_be_interrupted(X, monkeypatch):
    """As Ctrl-C, which comes while the main thread waits for a run."""
    is_over, fit = threading.Event(), KMeans.fit

    def slow(self, *args, **kwargs):
        is_over.wait(60.0)
        return fit(self, *args, **kwargs)

    def interrupt(future):
        raise KeyboardInterrupt

    monkeypatch.setattr(KMeans, "fit", slow)
    monkeypatch.setattr(Future, "result", interrupt)
    random_state = np.random.RandomState(0)
    found = kmeans_side_by_side(StartingRows(X), 6 * [(4, random_state)])
    threads = set(threading.enumerate())
    try:
        with pytest.raises(KeyboardInterrupt):
            next(found)
        assert not is_over.is_set()
        # The random numbers are the caller's again.
        before = random_state.get_state()[1].tolist(), random_state.get_state()[2]
    finally:
        is_over.set()
    for thread in set(threading.enumerate()) - threads:
        thread.join(60.0)
    assert (random_state.get_state()[1].tolist(), random_state.get_state()[2]) == before
