"""Processes and workers share the rows: each row is read by one of them."""

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed, parallel_config
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    get_worker_info,
)

from sklearn_torch_gmm import GaussianMixture
from sklearn_torch_gmm.rows.in_memory import ArrayRows
from sklearn_torch_gmm.rows.indexed import DatasetRows, StoreRows
from sklearn_torch_gmm.rows.source import Shard
from sklearn_torch_gmm.rows.streams import LoaderRows, StreamRows
from tests.rows.examples import (
    Failing,
    ManyAtOnce,
    Map,
    SplittingStream,
    Store,
    Stream,
    assert_same_fit,
    fit,
    loader,
    no_workers_are_left,
    sorted_by_component,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def X():
    return sorted_by_component()


@pytest.fixture
def start(X):
    return X[[0, -1]]


# -- workers --------------------------------------------------------------------------------------


class StreamForWorkers(Stream):
    """Looks at the worker that it is in, as torch's documentation has it."""

    def __iter__(self):
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return iter(self.rows[first::step])


def test_predictions_of_a_stream_that_workers_share_are_in_order(X, start):
    mixture = fit(X, start, covariance_type="full", batch_size=7, num_workers=2)
    stream = SplittingStream(X)
    np.testing.assert_array_equal(mixture.predict(stream), mixture.predict(X))
    for ask in (mixture.predict_proba, mixture.score_samples):
        np.testing.assert_allclose(ask(stream), ask(X), rtol=1e-9, atol=1e-12)
    assert mixture.score(stream) == pytest.approx(mixture.score(X), rel=1e-12)


@pytest.mark.parametrize(
    "stream",
    [
        Stream,
        SplittingStream,
        StreamForWorkers,
        Map,
        lambda X: loader(X, batch_size=60, num_workers=1),
    ],
    ids=["stream", "splitting stream", "stream for workers", "dataset", "loader"],
)
def test_workers_read_each_row_once(X, start, stream):
    rows = stream(X)
    mixture = fit(rows, start, batch_size=50, num_workers=2)
    assert no_workers_are_left()
    assert_same_fit(mixture, fit(X, start))
    assert mixture.score(rows) == pytest.approx(mixture.score(X), rel=1e-12)
    assert no_workers_are_left()


def test_workers_read_for_a_process_of_joblibs(X, start):
    with parallel_config(backend="loky"):
        (mixture,) = Parallel(n_jobs=2)([delayed(fit)(Map(X), start, batch_size=50, num_workers=1)])
    assert_same_fit(mixture, fit(X, start))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_exception_of_a_dataset_passes_on_and_ends_the_workers(X, num_workers):
    with pytest.raises(OSError, match="the disk is gone"):
        GaussianMixture(2, num_workers=num_workers, batch_size=30).fit(Failing(X))
    assert no_workers_are_left()


def test_an_exception_of_a_loaders_worker_passes_on_and_ends_the_workers(X):
    broken = DataLoader(Failing(X), batch_size=30, num_workers=1, persistent_workers=True)
    with pytest.raises(OSError, match="the disk is gone"):
        GaussianMixture(2).fit(broken)
    assert no_workers_are_left()


# -- processes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [ArrayRows, DatasetRows, StoreRows, StreamRows, LoaderRows],
    ids=["array", "dataset", "store", "stream", "loader"],
)
@pytest.mark.parametrize("count", [2, 3, 400])
def test_each_row_is_on_one_of_several_processes(X, source, count):
    kinds = {
        ArrayRows: X,
        DatasetRows: Map(X),
        StoreRows: Store(X),
        StreamRows: Stream(X),
        LoaderRows: loader(X, batch_size=10),
    }
    rows = source(kinds[source])
    shards = [list(rows.batches(20, 0, Shard(index, count))) for index in range(count)]
    assert all(len(batches) >= 1 for batches in shards)
    read = np.concatenate([batch[0] for batches in shards for batch in batches])
    np.testing.assert_array_equal(read[np.lexsort(read.T)], X[np.lexsort(X.T)])


def test_a_process_reads_its_share_only(X):
    dataset, store = ManyAtOnce(X), Store(X)
    list(DatasetRows(dataset).batches(50, 0, Shard(1, 3)))
    assert dataset.calls == 3
    list(StoreRows(store).batches(None, 0, Shard(1, 3)))
    assert store.read == [(102, 204)]
    counted = ManyAtOnce(X)
    share = LoaderRows(DataLoader(counted, batch_size=10)).batches(None, 0, Shard(0, 4))
    before = counted.calls
    assert len(list(share)) == 8
    assert counted.calls == before + 8


class BucketSampler(BatchSampler):
    """Rows in order, and their batches in any."""

    def __iter__(self):
        batches = list(super().__iter__())
        np.random.default_rng().shuffle(batches)
        return iter(batches)


@pytest.mark.parametrize(
    "options",
    [
        lambda X: {"shuffle": True},
        lambda X: {"shuffle": True, "batch_size": None},
        lambda X: {"sampler": DistributedSampler(X, 2, 0)},
        lambda X: {"sampler": SubsetRandomSampler(range(len(X)))},
        lambda X: {"batch_sampler": BatchSampler(RandomSampler(X), 7, drop_last=False)},
        lambda X: {"batch_sampler": BucketSampler(SequentialSampler(X), 7, drop_last=False)},
    ],
)
def test_loaders_that_several_processes_cannot_share(X, options):
    shared = DataLoader(Map(X[:, None] if "None" in str(options(X)) else X), **options(X))
    with pytest.raises(ValueError, match=r"cannot share a DataLoader with a \w*Sampler"):
        LoaderRows(shared).batches(None, 0, Shard(0, 2))


@pytest.mark.parametrize(
    "options",
    [
        lambda X: {"batch_size": 30},
        lambda X: {"batch_size": 30, "sampler": range(len(X))},
        lambda X: {"batch_size": 30, "sampler": np.arange(len(X))},
        lambda X: {"batch_size": 30, "sampler": torch.arange(len(X))},
        lambda X: {"batch_sampler": BatchSampler(SequentialSampler(X), 7, drop_last=False)},
        lambda X: {"batch_sampler": [list(range(100)), list(range(100, len(X)))]},
    ],
)
def test_loaders_in_order_are_dealt_out(X, options):
    source = LoaderRows(DataLoader(Map(X), **options(X)))
    parts = [source.batches(None, 0, Shard(i, 2)) for i in range(2)]
    rows = torch.cat([batch[0] for part in parts for batch in part])
    np.testing.assert_array_equal(np.sort(rows.numpy(), axis=0), np.sort(X, axis=0))
