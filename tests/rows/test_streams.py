"""Rows that do not lie in memory: each is read once an iteration, and the fit is the same."""

import warnings
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from sklearn_torch_gmm import GaussianMixture
from sklearn_torch_gmm.mixture import GaussianMixture as DropIn
from tests.rows.examples import (
    NUM_ROWS,
    ManyAtOnce,
    Map,
    OneShot,
    SplittingStream,
    Store,
    Stream,
    assert_same_fit,
    fit,
    loader,
    mapped,
    sorted_by_component,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

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
    return sorted_by_component()


@pytest.fixture
def start(X):
    return X[[0, -1]]


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


def test_integers_in_a_file_are_converted_batch_by_batch(X, start, tmp_path):
    whole = np.round(100 * X).astype(np.int16)
    data = mapped(whole, tmp_path)
    by_file = fit(data, 100 * start, batch_size=100)
    expected = fit(whole.astype(float), 100 * start)
    assert_same_fit(by_file, expected)
    np.testing.assert_array_equal(by_file.labels_, expected.labels_)


def test_a_long_stream_is_started_from_a_sample(X, monkeypatch):
    monkeypatch.setattr("sklearn_torch_gmm.rows.streams.sample_size", lambda _: 100)
    mixtures = [
        GaussianMixture(2, random_state=5, batch_size=size).fit(Stream(X)) for size in (7, None)
    ]
    assert_same_fit(*mixtures)
    assert mixtures[0].n_samples_seen_ == NUM_ROWS


def test_a_part_of_the_rows_may_be_asked_for(X):
    params = {"limit_train_batches": 2, "max_epochs": 3}
    mixture = GaussianMixture(2, batch_size=30, trainer_params=params, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert mixture.fit(Stream(X)).n_iter_ == 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_narrow_types_are_widened_wherever_rows_come_from(X, dtype):
    rows = torch.tensor(X).to(dtype)
    expected = GaussianMixture(2, random_state=0).fit(rows)
    for source in (DataLoader(TensorDataset(rows), batch_size=50), TensorDataset(rows)):
        mixture = GaussianMixture(2, random_state=0, batch_size=50).fit(source)
        # The start is that of float32 rows, too.
        np.testing.assert_allclose(mixture.means_, expected.means_, rtol=1e-4, atol=1e-4)
        answers = expected.score_samples(source)
        assert answers.dtype == torch.float32
        np.testing.assert_allclose(answers, expected.score_samples(rows).numpy(), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.longdouble])
def test_types_of_stores_that_torch_or_answers_cannot_have(X, dtype):
    mixture = GaussianMixture(2, random_state=0).fit(Store(X.astype(dtype)))
    answers = mixture.score_samples(Store(X.astype(dtype)))
    assert answers.dtype == (np.float32 if dtype is np.float16 else np.float64)


def test_random_numbers_of_torch_are_left_alone(X, start):
    before = torch.get_rng_state()
    fit(Map(X), start)
    fit(Stream(X), start)
    assert torch.equal(torch.get_rng_state(), before)


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
        (lambda X: Stream(X[:1]), "num_components = 2, n_samples = 1"),
        (lambda X: Stream([*X[:70], X[0, :2]]), r"Sample 70 has .* \[2\]; with the 3 features"),
        (lambda X: Map([*X[:70], X[0, :2]]), r"Sample 70 has the shape \[2\]"),
        (lambda X: Stream(X[None]), r"shape \[307, 3\].*DataLoader\(dataset, batch_size=None\)"),
        (lambda X: DataLoader(Map(X), batch_size=None), r"got shape \[3\] in batch 0"),
        (lambda X: DataLoader(Map(X.tolist())), r"got shape \[1\] in batch 0"),
        (lambda X: Stream(X.astype(complex)), "real numbers, got ndarray of type complex128"),
        (
            lambda X: DataLoader([torch.ones(5, 3), torch.ones(5, 2)], batch_size=None),
            r"Batch 1 has the shape \[5, 2\]; with the 3 features",
        ),
        (lambda X: Stream(with_value(X, np.nan)), "sample 50 of batch 0.*|sample 250 of batch 0"),
        (lambda X: Store(with_value(X, np.inf)), "NaN or infinity: sample 250 of batch 0"),
        (lambda X: Map(with_value(X, np.nan)), "NaN or infinity: sample 250 of batch 0"),
        (
            lambda X: loader(with_value(X, -np.inf), batch_size=100),
            "sample 50 of batch 2, which is sample 250 in total",
        ),
        (
            lambda X: loader(X, sampler=WeightedRandomSampler(np.ones(307), 307)),
            "A WeightedRandomSampler draws samples with replacement.* Draw once",
        ),
        (
            lambda X: loader(X, sampler=RandomSampler(X, replacement=True)),
            "A RandomSampler draws samples with replacement.* Draw once",
        ),
        (
            lambda X: loader(X, sampler=RandomSampler(X, num_samples=100)),
            "A RandomSampler with num_samples=100 draws samples, others each time",
        ),
        (
            lambda X: loader(X, batch_size=100, shuffle=True, drop_last=True),
            "leaves out samples if drop_last=True, others each time.* Pass drop_last=False",
        ),
        (
            lambda X: loader(X, batch_sampler=BatchSampler(SubsetRandomSampler(range(9)), 2, True)),
            "leaves out samples",
        ),
        (lambda X: OneShot(X), "was empty when it was iterated over again"),
    ],
)
def test_bad_data_are_refused(X, make, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(2, random_state=0).fit(make(X))


class SameOrder(RandomSampler):
    """A fixed permutation, without the attributes of its base."""

    def __init__(self, data):
        self.order = np.random.default_rng(0).permutation(len(data)).tolist()

    def __iter__(self):
        return iter(self.order)

    def __len__(self):
        return len(self.order)


class Pairs(BatchSampler):
    """Batches of two, without the attributes of its base."""

    def __init__(self, sampler):
        self.sampler = sampler

    def __iter__(self):
        rows = iter(self.sampler)
        return zip(rows, rows, strict=True)

    def __len__(self):
        return len(self.sampler) // 2


class Sorted(Sampler):
    def __init__(self, sampler):
        self.sampler = sampler

    def __iter__(self):
        return iter(sorted(self.sampler))

    def __len__(self):
        return len(self.sampler)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 102, "drop_last": True},
        {"batch_size": 102, "drop_last": True, "shuffle": True},
        {"sampler": SubsetRandomSampler(range(306))},
        {"sampler": SameOrder(range(306)), "batch_size": 100},
        {"sampler": RandomSampler(range(306), num_samples=612)},
        {"batch_sampler": Pairs(SameOrder(range(306)))},
        {"batch_sampler": BatchSampler(Sorted(RandomSampler(range(306))), 102, True)},
    ],
)
def test_loaders_that_read_the_same_rows_in_each_pass(X, options):
    found, expected = (
        GaussianMixture(2, init_means=X[:2], trainer_params={"max_epochs": 3}).fit(data)
        for data in (loader(X[:306], **options), X[:306])
    )
    np.testing.assert_allclose(found.means_, expected.means_, rtol=1e-9)


@pytest.mark.parametrize("values", [np.arange(307) % 2, np.eye(2)[np.arange(307) % 2]])
def test_an_array_as_initialization_needs_an_order_of_the_samples(X, values):
    mixture = DropIn(2, init_params=values, max_iter=1)
    with pytest.raises(ValueError, match="the DataLoader shuffles them"):
        mixture.fit(loader(X, shuffle=True))
    in_order = mixture.fit(loader(X)).means_
    np.testing.assert_allclose(in_order, mixture.fit(X).means_, rtol=1e-9)


@pytest.mark.parametrize(
    "make",
    [
        lambda X: Map([{"x": row, "y": 0} for row in X]),
        lambda X: Stream([{"x": row, "y": 0} for row in X]),
        lambda X: DataLoader([{"x": row, "y": 0} for row in X]),
    ],
)
def test_rows_in_dictionaries_are_refused_with_what_to_pass(X, start, make):
    message = r"got a dict with the keys 'x', 'y': pass a dataset whose items .* collate_fn"
    with pytest.raises(TypeError, match=message):
        GaussianMixture(2, random_state=0).fit(make(X))
    with pytest.raises(TypeError, match=message):
        fit(X, start).predict(make(X))


def test_lazy_frames_are_refused_with_what_to_call(X, start):
    class LazyFrame:
        """As polars has it: columns, and nothing to read yet."""

        columns = ("a", "b", "c")

        def collect(self):
            return X

    with pytest.raises(TypeError, match=r"A LazyFrame is a query.*pass X\.collect\(\)"):
        GaussianMixture(2).fit(LazyFrame())
    with pytest.raises(TypeError, match=r"A LazyFrame is a query.*pass X\.collect\(\)"):
        fit(X, start).predict(LazyFrame())


def test_annotated_data_are_told_from_a_store(X, start):
    class AnnData(Store):
        """As the package of that name has it: no rows for a slice, but another of its kind."""

        obsm: ClassVar = {}

    with pytest.raises(TypeError, match=r"An AnnData is not .*pass adata\.X"):
        GaussianMixture(2).fit(AnnData(X))
    with pytest.raises(TypeError, match=r"An AnnData is not .*pass adata\.X"):
        fit(X, start).predict(AnnData(X))


def test_what_to_do_about_nan_is_said(X):
    with pytest.raises(ValueError, match=r"NaN or inf.* 2 of batch 0.* missing='em'"):
        GaussianMixture(2).fit(Stream(np.where(np.arange(len(X))[:, None] == 2, np.nan, X)))


def test_a_sparse_store_is_refused(X):
    class Sparse(Store):
        """As the matrix of a backed AnnData: slices of it are sparse arrays."""

        def __getitem__(self, place):
            return sparse.csr_matrix(super().__getitem__(place))

    with pytest.raises(TypeError, match=r"Sparse data .* dense embedding"):
        GaussianMixture(2).fit(Sparse(X))


def test_a_row_that_turns_bad_later_is_named(X, start):
    class Spoiling(Stream):
        def __iter__(self):
            self.read += 1
            return iter(with_value(X, np.nan) if self.read > 4 else X)

    with pytest.raises(ValueError, match="sample 50 of batch 2, which is sample 250 in total"):
        fit(Spoiling(X), start, batch_size=100)


def test_bad_rows_are_refused_in_predictions(X, start):
    mixture = fit(X, start)
    with pytest.raises(ValueError, match="sample 250 of batch 0"):
        mixture.predict(Stream(with_value(X, np.nan)))
    with pytest.raises(ValueError, match="X has 2 features, but GaussianMixture is expecting 3"):
        mixture.score(Stream(X[:, :2]))


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


class Exhausted(Map):
    """Wrong: as a reader that calls ``next`` on an iterator at its end."""

    def __getitem__(self, index):
        if index == 200:
            raise StopIteration
        return self.items[index]


def test_a_dataset_that_stops_in_the_midst_is_an_error(X):
    with pytest.raises(RuntimeError, match="StopIteration for samples"):
        GaussianMixture(2, batch_size=30).fit(Exhausted(X))
    mixture = GaussianMixture(2, batch_size=30, random_state=0).fit(X)
    with pytest.raises(RuntimeError, match="StopIteration for samples"):
        mixture.predict(Exhausted(X))


class Selection(Store):
    """What Dask has where it cannot know how many rows there are before they are computed."""

    chunks = ((np.nan, np.nan), (3,))

    def __init__(self, rows):
        super().__init__(rows)
        self.shape = (np.nan, *rows.shape[1:])

    def __array__(self, dtype=None, copy=None):
        return np.array(self._rows, dtype)


def test_rows_of_unknown_number_that_are_no_stream_are_read_at_once(X):
    expected = GaussianMixture(2, random_state=0).fit(X)
    mixture = GaussianMixture(2, random_state=0).fit(Selection(X))
    np.testing.assert_array_equal(mixture.means_, expected.means_)
    np.testing.assert_array_equal(mixture.predict(Selection(X)), expected.predict(X))
    assert mixture.bic(Selection(X)) == expected.bic(X)


def test_weights_of_rows_of_unknown_number_are_read_at_once(X, rng):
    weights = rng.uniform(size=len(X))
    expected = GaussianMixture(2, random_state=0).fit(X, sample_weight=weights)
    mixture = GaussianMixture(2, random_state=0).fit(Selection(X), sample_weight=Selection(weights))
    np.testing.assert_array_equal(mixture.means_, expected.means_)
    with pytest.raises(ValueError, match=r"sample_weight.shape == \(3,\), expected"):
        mixture.score(Selection(X), sample_weight=Selection(weights[:3]))
