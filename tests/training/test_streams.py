"""Rows that do not lie in memory: each is read once an iteration, and the fit is the same."""

import multiprocessing
import threading
import time
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    get_worker_info,
)

from sklearn_torch_gmm import GaussianMixture
from sklearn_torch_gmm.training import arrays, data
from sklearn_torch_gmm.training.arrays import ArrayRows, MappedFile, rows_a_batch
from sklearn_torch_gmm.training.data import Shard
from sklearn_torch_gmm.training.datasets import DatasetRows, StoreRows
from sklearn_torch_gmm.training.reading import ReadAhead
from sklearn_torch_gmm.training.reservoir import Reservoir
from sklearn_torch_gmm.training.streams import LoaderRows, StreamRows

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

NUM_ROWS = 307  # prime


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


class StreamForWorkers(Stream):
    """Looks at the worker that it is in, as torch's documentation has it."""

    def __iter__(self):
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return iter(self.rows[first::step])


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


KINDS = {
    "memmap": mapped,
    "tensor": lambda X, _: torch.tensor(X),
    "dataset": lambda X, _: Map(X),
    "dataset of lists": lambda X, _: Map(X.tolist()),
    "dataset of tuples": lambda X, _: Map([tuple(row) for row in X]),
    "dataset with labels": lambda X, _: Map([(row, 1) for row in X]),
    "dataset with __getitems__": lambda X, _: ManyAtOnce(X),
    "stream": lambda X, _: Stream(X),
    "stream of tensors": lambda X, _: Stream(torch.tensor(X)),
    "stream with labels": lambda X, _: Stream([(row.tolist(), 1) for row in X]),
    "splitting stream": lambda X, _: SplittingStream(X),
    "store": lambda X, _: Store(X),
    "loader": lambda X, _: loader(X, batch_size=100),
    "loader of ready batches": lambda X, _: DataLoader(
        Stream(torch.tensor(X).split(50)), batch_size=None
    ),
    "shuffling loader": lambda X, _: loader(
        X, batch_size=64, shuffle=True, generator=torch.Generator().manual_seed(0)
    ),
}


@pytest.fixture
def X():
    """Rows sorted by component."""
    rng = np.random.default_rng(0)
    return np.vstack([rng.normal(size=(200, 3)), rng.normal(size=(NUM_ROWS - 200, 3)) + 2.5])


@pytest.fixture
def start(X):
    return X[[0, -1]]


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


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_every_kind_of_input_gives_the_same_mixture(X, start, tmp_path, covariance_type):
    expected = fit(X, start, covariance_type=covariance_type)
    for name, kind in KINDS.items():
        data = kind(X, tmp_path)
        for batch_size in (7, 500, None) if covariance_type == "full" else (7,):
            actual = fit(data, start, covariance_type=covariance_type, batch_size=batch_size)
            assert_same_fit(actual, expected)
            assert actual.n_samples_seen_ == NUM_ROWS
            assert hasattr(actual, "labels_") == (name in ("memmap", "tensor")), name


@pytest.mark.parametrize("kind", KINDS)
def test_batches_of_one_row(X, kind, tmp_path):
    X = X[170:230]
    start = X[[0, -1]]
    actual = fit(KINDS[kind](X, tmp_path), start, batch_size=1)
    assert_same_fit(actual, fit(X, start))


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "shuffling loader"])
@pytest.mark.parametrize("batch_size", [50, None])
def test_predictions_are_complete_and_in_order(X, start, kind, batch_size, tmp_path):
    mixture = fit(X, start, covariance_type="full", batch_size=batch_size)
    data = KINDS[kind](X, tmp_path)
    np.testing.assert_array_equal(mixture.predict(data), mixture.predict(X))
    for ask in (mixture.predict_proba, mixture.score_samples):
        np.testing.assert_allclose(ask(data), ask(X), rtol=1e-9, atol=1e-12)
    for ask in (mixture.score, mixture.bic, mixture.aic):
        assert ask(data) == pytest.approx(ask(X), rel=1e-12)


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


def test_a_batch_is_read_once_an_iteration(X, start):
    stream, dataset, store = Stream(X), ManyAtOnce(X), Store(X)
    by_stream = fit(stream, start, batch_size=100)
    # Beside the iterations: one row for its width, and all of them for the start.
    assert stream.read == 1 + NUM_ROWS * (1 + by_stream.n_iter_)
    by_dataset = fit(dataset, start, batch_size=100)
    assert dataset.calls == 1 + 4 * by_dataset.n_iter_
    by_store = fit(store, start, batch_size=100)
    parts = [(0, 100), (100, 200), (200, 300), (300, 307)]
    assert store.read == [(0, 307)] + parts * by_store.n_iter_


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


def test_integers_in_a_file_are_converted_batch_by_batch(X, start, tmp_path):
    whole = np.round(100 * X).astype(np.int16)
    data = mapped(whole, tmp_path)
    by_file = fit(data, 100 * start, batch_size=100)
    expected = fit(whole.astype(float), 100 * start)
    assert_same_fit(by_file, expected)
    np.testing.assert_array_equal(by_file.labels_, expected.labels_)


# -- reading ahead --------------------------------------------------------------------------------


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


def test_a_mapped_file_is_sent_by_its_name(X, tmp_path):
    part = mapped(X, tmp_path)[5:]
    rows = ArrayRows(part)
    assert rows.file.shape == (NUM_ROWS - 5, 3)
    np.testing.assert_array_equal(rows.file.open(), X[5:])
    state = rows.__getstate__()
    assert "rows" not in state
    copy = ArrayRows.__new__(ArrayRows)
    copy.__setstate__(state)
    np.testing.assert_array_equal(copy.rows, X[5:])
    assert MappedFile.behind(X) is None
    assert MappedFile.behind(part[:, :2]) is None


def test_a_large_file_is_started_from_a_sample(X, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "SAMPLE_ROWS", 50)
    rows = ArrayRows(mapped(X, tmp_path))
    random_state = np.random.RandomState
    assert rows.starting_rows(1, random_state(0)).rows.shape == X.shape
    monkeypatch.setattr(arrays, "MAPPED_BYTES", 100)
    monkeypatch.setattr(data, "sample_size", lambda num_components: 50)
    sample = rows.starting_rows(1, random_state(0)).rows
    assert sample.shape == (50, 3)
    np.testing.assert_array_equal(sample, rows.starting_rows(1, random_state(0)).rows)


@pytest.mark.parametrize(
    ("num_rows", "free", "expected"),
    [
        (1000, 160_000, None),
        (1001, 160_000, 250),
        (10**9, 10**9, 1562500),
        (10**12, 80 * 10**9, 8 * (2**25 // 80)),
        (10, 1, 1),
    ],
)
def test_batches_for_a_device_that_has_no_room_for_all_rows(num_rows, free, expected):
    assert rows_a_batch(num_rows, 80, free) == expected


# -- the sample that a start is taken from --------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7, 100, 1000])
def test_a_reservoir_depends_on_the_seed_and_the_rows_alone(batch_size):
    rows = np.arange(1000.0).reshape(500, 2)
    whole = Reservoir(60, np.random.RandomState(3))
    whole.add(rows)
    batches = Reservoir(60, np.random.RandomState(3))
    for first in range(0, 500, batch_size):
        batches.add(rows[first : first + batch_size])
    np.testing.assert_array_equal(batches.rows(), whole.rows())
    assert whole.seen == batches.seen == 500
    assert len(np.unique(whole.rows()[:, 0])) == 60
    assert (np.diff(whole.rows()[:, 0]) > 0).all()


def test_a_reservoir_chooses_each_row_equally_often():
    counts = np.zeros(20)
    random_state = np.random.RandomState(0)
    for _ in range(2000):
        reservoir = Reservoir(5, random_state)
        for first in range(0, 20, 3):
            reservoir.add(np.arange(20.0)[first : first + 3, None])
        counts[reservoir.rows()[:, 0].astype(int)] += 1
    # 500 ± 19 is expected.
    assert (np.abs(counts - 500) < 5 * 19).all()


def test_no_random_number_is_drawn_where_all_rows_are_kept():
    random_state = np.random.RandomState(0)
    reservoir = Reservoir(10, random_state)
    reservoir.add(np.zeros((10, 1)))
    assert reservoir.rows().shape == (10, 1)
    assert random_state.random_sample() == np.random.RandomState(0).random_sample()


def test_a_long_stream_is_started_from_a_sample(X, monkeypatch):
    monkeypatch.setattr("sklearn_torch_gmm.training.streams.sample_size", lambda _: 100)
    mixtures = [
        GaussianMixture(2, random_state=5, batch_size=size).fit(Stream(X)) for size in (7, None)
    ]
    assert_same_fit(*mixtures)
    assert mixtures[0].n_samples_seen_ == NUM_ROWS


# -- bad input ------------------------------------------------------------------------------------


def with_value(X, value):
    X = X.copy()
    X[250, 1] = value
    return X


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda X: Stream(X[:0]), r"stream with 0 sample\(s\)"),
        (lambda X: loader(X[:0]), r"loader with 0 sample\(s\)"),
        (lambda X: Store(X[:0]), r"shape \(0, 3\) while a minimum of 1 sample"),
        (lambda X: Store(X[0]), "Expected 2D array"),
        (lambda X: Stream(X[:1]), "n_components = 2, n_samples = 1"),
        (lambda X: Stream([*X[:70], X[0, :2]]), r"Row 70 has the shape \[2\]; with the 3 features"),
        (lambda X: Map([*X[:70], X[0, :2]]), r"Row 70 has the shape \[2\]"),
        (lambda X: Stream(X[None]), r"shape \[307, 3\].*DataLoader\(dataset, batch_size=None\)"),
        (lambda X: DataLoader(Map(X), batch_size=None), r"got shape \[3\] in batch 0"),
        (lambda X: DataLoader(Map(X.tolist())), r"got shape \[1\] in batch 0"),
        (lambda X: Map([{"x": row} for row in X]), "real numbers, got dict of type object"),
        (lambda X: Stream(X.astype(complex)), "real numbers, got ndarray of type complex128"),
        (lambda X: DataLoader([{"a": 1}]), "got <class .dict.> in batch 0"),
        (
            lambda X: DataLoader([torch.ones(5, 3), torch.ones(5, 2)], batch_size=None),
            r"Batch 1 has the shape \[5, 2\]; with the 3 features",
        ),
        (lambda X: Stream(with_value(X, np.nan)), "row 50 of batch 0.*|row 250 of batch 0"),
        (lambda X: Store(with_value(X, np.inf)), "NaN or infinity: row 250 of batch 0"),
        (lambda X: Map(with_value(X, np.nan)), "NaN or infinity: row 250 of batch 0"),
        (
            lambda X: loader(with_value(X, -np.inf), batch_size=100),
            "row 50 of batch 2, which is row 250 of those read",
        ),
        (lambda X: OneShot(X), "gave rows once and none when it was iterated again"),
    ],
)
def test_bad_data_are_refused(X, make, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(2, random_state=0).fit(make(X))


def test_a_row_that_turns_bad_later_is_named(X, start):
    class Spoiling(Stream):
        def __iter__(self):
            self.read += 1
            return iter(with_value(X, np.nan) if self.read > 4 else X)

    with pytest.raises(ValueError, match="row 50 of batch 2, which is row 250 of those read"):
        fit(Spoiling(X), start, batch_size=100)


def test_bad_rows_are_refused_in_predictions(X, start):
    mixture = fit(X, start)
    with pytest.raises(ValueError, match="row 250 of batch 0"):
        mixture.predict(Stream(with_value(X, np.nan)))
    with pytest.raises(ValueError, match="X has 2 features, but GaussianMixture is expecting 3"):
        mixture.score(Stream(X[:, :2]))


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
        lambda X: {"sampler": WeightedRandomSampler(np.ones(len(X)), len(X))},
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


class Shrinking(IterableDataset):
    """Wrong: gives fewer rows from some time on."""

    def __init__(self, rows, good):
        self.rows, self.good = rows, good

    def __iter__(self):
        self.good -= 1
        return iter(self.rows if self.good >= 0 else self.rows[:100])


def test_rows_that_are_missing_in_a_later_pass_are_an_error(X):
    message = f"gave {len(X)} rows once, and 100 when they were read again"
    with pytest.raises(ValueError, match=message):
        GaussianMixture(2, random_state=0).fit(Shrinking(X, good=3))


def test_a_part_of_the_rows_may_be_asked_for(X):
    params = {"limit_train_batches": 2, "max_epochs": 3}
    mixture = GaussianMixture(2, batch_size=30, trainer_params=params, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert mixture.fit(Stream(X)).n_iter_ == 3


class Exhausted(Map):
    """Wrong: as a reader that calls ``next`` on an iterator at its end."""

    def __getitem__(self, index):
        if index == 200:
            raise StopIteration
        return self.items[index]


def test_a_dataset_that_stops_in_the_midst_is_an_error(X):
    with pytest.raises(RuntimeError, match="StopIteration for rows"):
        GaussianMixture(2, batch_size=30).fit(Exhausted(X))
    mixture = GaussianMixture(2, batch_size=30, random_state=0).fit(X)
    with pytest.raises(RuntimeError, match="StopIteration for rows"):
        mixture.predict(Exhausted(X))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_narrow_types_are_widened_wherever_rows_come_from(X, dtype):
    rows = torch.tensor(X).to(dtype)
    expected = GaussianMixture(2, random_state=0).fit(rows)
    for source in (DataLoader(TensorDataset(rows), batch_size=50), TensorDataset(rows)):
        mixture = GaussianMixture(2, random_state=0, batch_size=50).fit(source)
        # The start is that of float32 rows, too.
        np.testing.assert_allclose(mixture.means_, expected.means_, rtol=1e-4, atol=1e-4)
        answers = expected.score_samples(source)
        assert answers.dtype == np.float32
        np.testing.assert_allclose(answers, expected.score_samples(rows).numpy(), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.longdouble])
def test_types_of_stores_that_torch_or_answers_cannot_have(X, dtype):
    mixture = GaussianMixture(2, random_state=0).fit(Store(X.astype(dtype)))
    answers = mixture.score_samples(Store(X.astype(dtype)))
    assert answers.dtype == (np.float32 if dtype is np.float16 else np.float64)


def test_a_private_map_is_not_what_is_in_its_file(tmp_path):
    np.save(tmp_path / "X.npy", np.zeros((9, 2)))
    assert MappedFile.behind(np.load(tmp_path / "X.npy", mmap_mode="r+")) is not None
    assert MappedFile.behind(np.load(tmp_path / "X.npy", mmap_mode="c")) is None


def test_random_numbers_of_torch_are_left_alone(X, start):
    before = torch.get_rng_state()
    fit(Map(X), start)
    fit(Stream(X), start)
    assert torch.equal(torch.get_rng_state(), before)
