"""Weights that come with the rows of a stream or a loader, and those of data read in pieces."""

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from sklearn import config_context
from sklearn.pipeline import make_pipeline
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from tests.estimators import (
    MIXTURE_CLASSES,
    TYPES,
    DropIn,
    TorchMixture,
    assert_same_mixture,
    fitted_mixture,
    make,
)
from tests.rows.examples import Map, OneShot, SplittingStream, Store, Stream

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

NUM_ROWS = 151  # prime
MEANS = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
CRITERIA = ("score", "bic", "aic")
NAMED_STARTS = [
    *((TorchMixture, start) for start in ("kmeans", "kmeans++", "random")),
    *((DropIn, start) for start in ("kmeans", "k-means++", "random", "random_from_data")),
]

each_class = pytest.mark.parametrize("cls", MIXTURE_CLASSES, ids=["documented", "drop-in"])


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    return MEANS[rng.integers(3, size=NUM_ROWS)] + rng.standard_normal((NUM_ROWS, 2))


@pytest.fixture
def weights():
    """Zero for some rows, and as heavy as ten thousand others for some."""
    rng = np.random.default_rng(1)
    return np.exp(3.0 * rng.standard_normal(NUM_ROWS)) * (rng.random(NUM_ROWS) > 0.2)


class Pairs(Stream):
    """Rows and their weights."""

    def __init__(self, X, weights):
        super().__init__(list(zip(X, weights, strict=True)))


class SplittingPairs(SplittingStream):
    def __init__(self, X, weights):
        super().__init__(list(zip(X, weights, strict=True)))


def tensors(X, weights):
    return TensorDataset(torch.tensor(X), torch.tensor(weights))


def ready_batches(X, weights):
    """Of unequal sizes, one of them empty."""
    places = [slice(0, 7), slice(7, 7), slice(7, 100), slice(100, None)]
    return [(X[p], weights[p]) for p in places]


STREAMS = {
    "stream": Pairs,
    "stream of tensors": lambda X, w: Pairs(torch.tensor(X), torch.tensor(w)),
    "stream of lists": lambda X, w: Pairs(X.tolist(), w.tolist()),
    "splitting stream": SplittingPairs,
    "loader": lambda X, w: DataLoader(tensors(X, w), batch_size=20),
    "loader that shuffles": lambda X, w: DataLoader(tensors(X, w), batch_size=20, shuffle=True),
    "loader of a stream": lambda X, w: DataLoader(Pairs(X, w), batch_size=13),
    "loader of ready batches": lambda X, w: DataLoader(
        Stream(ready_batches(torch.tensor(X), torch.tensor(w))), batch_size=None
    ),
}


def at_means(X, num_components, random_state):
    return MEANS[:num_components]


def assert_same_fit(actual, expected, tolerance=1e-8):
    assert actual.n_iter_ == expected.n_iter_ > 1
    assert actual.n_samples_seen_ == pytest.approx(expected.n_samples_seen_, rel=1e-12)
    np.testing.assert_allclose(actual.lower_bounds_, expected.lower_bounds_, rtol=tolerance)
    assert_same_mixture(actual, fitted_mixture(expected), tolerance)


# -- the same as rows in memory -------------------------------------------------------------------


@pytest.mark.parametrize("cls", MIXTURE_CLASSES, ids=["documented", "drop-in"])
@pytest.mark.parametrize("kind", STREAMS)
def test_a_fit_and_what_is_asked_of_it(X, weights, cls, kind):
    options = {"start": at_means, "covariance_type": "full", "batch_size": 40}
    expected = make(cls, 3, **options).fit(X, sample_weight=weights)
    stream = STREAMS[kind](X, weights)
    actual = make(cls, 3, **options).fit(stream, sample_weight=True)
    assert_same_fit(actual, expected)
    for name in CRITERIA:
        value = getattr(expected, name)(X, sample_weight=weights)
        assert getattr(actual, name)(stream, sample_weight=True) == pytest.approx(value, rel=1e-9)
        without = getattr(expected, name)(X)
        assert getattr(actual, name)(stream) == pytest.approx(without, rel=1e-9)
        assert value != pytest.approx(without, rel=1e-3)


@each_class
@pytest.mark.parametrize("covariance_type", TYPES)
def test_every_covariance_type(X, weights, cls, covariance_type):
    mixture = make(cls, 3, start=at_means, covariance_type=covariance_type, num_workers=1)
    expected = mixture.clone().fit(X, sample_weight=weights)
    assert_same_fit(mixture.fit(SplittingPairs(X, weights), sample_weight=True), expected)


def test_a_loader_with_workers(X, weights):
    expected = make(DropIn, 3, start=at_means).fit(X, sample_weight=weights)
    loader = DataLoader(tensors(X, weights), batch_size=20, num_workers=2, persistent_workers=True)
    actual = make(DropIn, 3, start=at_means).fit(loader, sample_weight=True)
    assert_same_fit(actual, expected)
    score = expected.score(X, sample_weight=weights)
    assert actual.score(loader, sample_weight=True) == pytest.approx(score, rel=1e-9)


@pytest.mark.parametrize(("cls", "start"), NAMED_STARTS)
def test_starts_are_weighed(X, weights, cls, start):
    mixture = make(cls, 3, start=start, random_state=3, covariance_type="diag")
    expected = mixture.clone().fit(X, sample_weight=weights)
    without = mixture.clone().fit(X[weights > 0])
    for kind in ("stream of tensors", "loader", "loader of ready batches"):
        actual = mixture.clone().fit(STREAMS[kind](X, weights), sample_weight=True)
        assert_same_fit(actual, expected)
    assert without.lower_bounds_[0] != pytest.approx(expected.lower_bounds_[0], rel=1e-3)


@pytest.mark.parametrize(("cls", "start"), NAMED_STARTS)
def test_zero_and_one_are_rows_removed_and_kept(X, weights, cls, start):
    mixture = make(cls, 3, start=start, random_state=3, covariance_type="diag")
    kept = weights > 0
    expected = mixture.clone().fit(X[kept])
    assert_same_fit(mixture.clone().fit(Pairs(X, kept), sample_weight=True), expected)
    assert_same_fit(mixture.clone().fit(Store(X), sample_weight=kept), expected)


@each_class
def test_labels_are_those_of_all_rows(X, weights, cls):
    labels = make(cls, 3, start=at_means).fit_predict(Pairs(X, weights), sample_weight=True)
    np.testing.assert_array_equal(
        labels, make(cls, 3, start=at_means).fit_predict(X, sample_weight=weights)
    )
    assert labels.shape == (NUM_ROWS,)


@each_class
@pytest.mark.parametrize("factor", [1e-300, 1e-20, 7e9])
def test_only_the_ratios_of_weights_matter(X, weights, cls, factor):
    """A component is empty by its share of the rows, not by the size of its weights."""
    mixture = make(cls, 3, start="kmeans", random_state=0)
    expected = mixture.clone().fit(X, sample_weight=weights)
    stream = Pairs(X, factor * weights)
    mixture.fit(stream, sample_weight=True)
    np.testing.assert_allclose(mixture.means_, expected.means_, rtol=1e-9, atol=1e-9)
    assert mixture.n_samples_seen_ == pytest.approx(factor * weights.sum(), rel=1e-12)
    score = expected.score(X, sample_weight=weights)
    assert mixture.score(stream, sample_weight=True) == pytest.approx(score, rel=1e-9)


@each_class
def test_a_second_member_is_a_label_unless_it_is_said_to_be_a_weight(X, weights, cls):
    mixture = make(cls, 3, start=at_means)
    assert_same_fit(mixture.clone().fit(Pairs(X, weights)), mixture.clone().fit(X), 1e-12)


@each_class
def test_the_batches_of_a_loader_are_updates(X, weights, cls):
    one, other = (make(cls, 3, start=at_means, covariance_type="full") for _ in range(2))
    for rows, its_weights in DataLoader(tensors(X, weights), batch_size=50):
        one.partial_fit(rows, sample_weight=its_weights)
    for start in range(0, NUM_ROWS, 50):
        part = slice(start, start + 50)
        other.partial_fit(X[part], sample_weight=weights[part])
    assert_same_mixture(one, fitted_mixture(other), 1e-10)
    assert one.n_samples_seen_ == pytest.approx(weights.sum())


@each_class
def test_a_start_of_labels_belongs_to_all_rows(X, weights, cls):
    labels = X.argmax(1)
    mixture = make(cls, 2, start=labels, covariance_type="tied")
    expected = mixture.clone().fit(X, sample_weight=weights)
    assert_same_fit(mixture.clone().fit(Pairs(X, weights), sample_weight=True), expected)
    assert_same_fit(mixture.clone().fit(Store(X), sample_weight=weights), expected)


def test_a_long_stream_is_started_from_a_weighted_sample(X, weights, monkeypatch):
    """Of rows that have weight; the answer of a function to it is where EM begins."""
    seen = []

    def start(sample, num_components, random_state):
        seen.append(sample)
        return MEANS

    monkeypatch.setattr("sklearn_torch_gmm.rows.streams.sample_size", lambda _: 40)
    mixtures = [
        make(DropIn, 3, start=start, random_state=5, batch_size=size)
        .fit(Pairs(X, weights), sample_weight=True)
        for size in (7, None)
    ]  # fmt: skip
    assert_same_fit(*mixtures)
    np.testing.assert_array_equal(*seen)
    position = {tuple(row): index for index, row in enumerate(X)}
    sampled = [position[tuple(row)] for row in seen[0]]
    assert len(set(sampled)) == 40
    assert (weights[sampled] > 0).all()
    # The weights of these rows and no others made the means of the first M-step.
    kept = make(DropIn, 3, start=at_means, iterations=0).fit(
        X[sampled], sample_weight=weights[sampled]
    )
    begun = make(DropIn, 3, start=start, random_state=5, iterations=0)
    begun.fit(Pairs(X, weights), sample_weight=True)
    assert_same_mixture(begun, fitted_mixture(kept), 1e-12)
    assert begun.n_samples_seen_ == pytest.approx(weights.sum())


def test_a_checkpoint_knows_the_sum_of_the_weights(X, weights, tmp_path):
    """It goes on without the reading that told it; in the end weights are as they were."""
    stream = Pairs(X, 1e-20 * weights)
    options = {"start": "kmeans", "random_state": 0, "tolerance": 0.0, "iterations": 6}
    saving = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    params = {"enable_checkpointing": True, "callbacks": [saving]}
    whole = make(DropIn, 3, **options, trainer_params=params).fit(stream, sample_weight=True)
    resumed = make(DropIn, 3, **options)
    resumed.fit(stream, sample_weight=True, ckpt_path=tmp_path / "epoch=2.ckpt")
    assert_same_fit(resumed, whole, 1e-12)


# -- data read in pieces whose number of rows is known ---------------------------------------------


@each_class
@pytest.mark.parametrize("covariance_type", TYPES)
def test_stores_and_datasets_take_an_array(X, weights, cls, covariance_type):
    options = {"start": "kmeans", "random_state": 0, "batch_size": 40}
    mixture = make(cls, 3, covariance_type=covariance_type, **options)
    expected = mixture.clone().fit(X, sample_weight=weights)
    for data in (Store(X), Map(X), TensorDataset(torch.tensor(X))):
        actual = mixture.clone().fit(data, sample_weight=weights)
        assert_same_fit(actual, expected)
        for name in CRITERIA:
            value = getattr(expected, name)(X, sample_weight=weights)
            answer = getattr(actual, name)(data, sample_weight=weights)
            assert answer == pytest.approx(value, rel=1e-9)


def test_a_row_of_a_store_without_weight_counts_for_nothing_however_far_it_is(X):
    far = np.vstack([X, np.full((1, 2), 1e200)])
    weights = np.append(np.ones(NUM_ROWS), 0.0)
    mixture = make(DropIn, 3, start=at_means)
    expected = mixture.clone().fit(X)
    assert_same_fit(mixture.clone().fit(Store(far), sample_weight=weights), expected)
    assert_same_fit(mixture.clone().fit(Pairs(far, weights), sample_weight=True), expected)


def test_a_sample_of_a_store_has_rows_of_weight_alone(X, weights, monkeypatch):
    monkeypatch.setattr("sklearn_torch_gmm.rows.source.SAMPLE_ROWS", 20)
    monkeypatch.setattr("sklearn_torch_gmm.rows.source.sample_size", lambda _: 20)
    seen = []

    def start(sample, num_components, random_state):
        seen.append(sample)
        return MEANS

    make(DropIn, 3, start=start, random_state=0).fit(Store(X), sample_weight=weights)
    (sample,) = seen
    assert len(np.unique(sample, axis=0)) == 20
    assert all(weights[(row == X).all(1)] > 0 for row in sample)


# -- routing --------------------------------------------------------------------------------------


@each_class
def test_the_request_is_routed(X, weights, cls):
    with config_context(enable_metadata_routing=True):
        mixture = make(cls, 3, start=at_means).set_fit_request(sample_weight=True)
        pipeline = make_pipeline(mixture).fit(Pairs(X, weights), sample_weight=True)
    expected = make(cls, 3, start=at_means).fit(X, sample_weight=weights)
    assert_same_fit(pipeline[-1], expected)


# -- what is refused ------------------------------------------------------------------------------


def known(cls):
    return cls.from_parameters([1.0], MEANS[:1], [1.0], covariance_type="spherical")


METHODS = ("fit", "fit_predict", *CRITERIA)


def changed(values, index, value):
    values = list(values)
    values[index] = value
    return values


@pytest.mark.parametrize(("cls", "method"), [(TorchMixture, "fit"), (DropIn, "score")])
@pytest.mark.parametrize(
    ("make_stream", "message"),
    [
        (lambda X, w: Pairs(X, changed(w, 70, -0.5)), "weight of sample 70 is -0.5: weights must"),
        (lambda X, w: Pairs(X, changed(w, 70, np.nan)), "weight of sample 70 is nan"),
        (lambda X, w: Pairs(X, changed(w, 70, np.inf)), "weight of sample 70 is inf"),
        (lambda X, w: Pairs(X, 0 * w), "sample_weight is zero for all samples"),
        (lambda X, w: Pairs(X, 0 * w + 1e308), "The sum of sample_weight overflows"),
        (lambda X, w: Pairs(X, changed(w, 70, [1.0, 2.0])), r"sample 70 must be one number.*\[1"),
        (lambda X, w: Pairs(X, ["light"] * NUM_ROWS), "A weight must be real numbers, got"),
        (lambda X, w: Stream(X), r"pair \(sample, weight\).*: item 0 is a ndarray\."),
        (lambda X, w: Stream(X.tolist()), r"pair \(sample, weight\).*: item 0 is a list of 2\."),
        (lambda X, w: Stream([(X[0], 1.0), (X[1],)]), "item 1 is a tuple of 1"),
        (lambda X, w: Stream(list(zip(X, w, w, strict=True))), "item 0 is a tuple of 3"),
        (
            lambda X, w: DataLoader(tensors(X, np.array(changed(w, 70, -2.0))), batch_size=40),
            "weight of sample 30 of batch 1 is -2: weights must be finite and not negative",
        ),
        (
            lambda X, w: DataLoader(TensorDataset(torch.tensor(X)), batch_size=40),
            r"batch of a DataLoader a pair \(samples, weights\): batch 0 is a list of 1\.",
        ),
        (lambda X, w: DataLoader(Map(X), batch_size=40), "batch 0 is a Tensor"),
        (
            lambda X, w: DataLoader(TensorDataset(*map(torch.tensor, (X, X, w))), batch_size=40),
            "batch 0 is a list of 3",
        ),
        (
            lambda X, w: DataLoader(tensors(X, w[:, None]), batch_size=40),
            r"weights of batch 0 have the shape \[40, 1\]; for its 40 samples it should be \[40\]",
        ),
        (lambda X, w: DataLoader(tensors(X, 0 * w), batch_size=40), "is zero for all samples"),
        (
            lambda X, w: DataLoader([(X, ["light"] * NUM_ROWS)], batch_size=None),
            "A weight must be real numbers, got list of type <U5",
        ),
    ],
    ids=[
        "negative", "NaN", "infinite", "zero", "huge", "two for a row", "text", "rows alone",
        "rows of two", "pairs of one", "with labels", "negative in a batch", "batches of one",
        "batches alone", "batches with labels", "2-D", "zero in batches", "text in batches",
    ],
)  # fmt: skip
def test_what_comes_with_rows_and_is_no_weight(X, weights, cls, method, make_stream, message):
    mixture = make(cls) if method in ("fit", "fit_predict") else known(cls)
    with pytest.raises(ValueError, match=message):
        getattr(mixture, method)(make_stream(X, weights), sample_weight=True)


@each_class
@pytest.mark.parametrize("method", METHODS)
def test_every_method_looks_at_them(X, weights, cls, method):
    mixture = make(cls) if method in ("fit", "fit_predict") else known(cls)
    for stream in (Pairs(X, -weights), DataLoader(tensors(X, -weights), batch_size=NUM_ROWS)):
        with pytest.raises(ValueError, match=r"weight of sample 0.* is -.*: weights must be"):
            getattr(mixture, method)(stream, sample_weight=True)


@each_class
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("given", [np.ones(NUM_ROWS), torch.ones(NUM_ROWS), 1.0, False])
def test_weights_beside_those_that_come_with_rows(X, weights, cls, method, given):
    mixture = make(cls) if method in ("fit", "fit_predict") else known(cls)
    for stream, pair in (
        (Pairs(X, weights), r"Pairs .* a pair \(sample, weight\), and pass sample_weight=True"),
        (DataLoader(tensors(X, weights)), r"DataLoader .* a pair \(samples, weights\), and pass"),
    ):
        with pytest.raises(ValueError, match=f"The weights of a {pair}"):
            getattr(mixture, method)(stream, sample_weight=given)


@each_class
@pytest.mark.parametrize("method", [*METHODS, "partial_fit"])
def test_other_data_have_no_weights_of_their_own(X, weights, cls, method):
    kinds = [X, torch.tensor(X), X.tolist()]
    if method != "partial_fit":
        kinds += [Store(X), tensors(X, weights)]
    for data in kinds:
        mixture = make(cls) if method in ("fit", "fit_predict", "partial_fit") else known(cls)
        with pytest.raises(ValueError, match="Other data take an array with a weight for each"):
            getattr(mixture, method)(data, sample_weight=True)


def test_a_row_that_is_not_finite_keeps_its_number(X, weights):
    """Rows without weight count, and are looked at like those of an array."""
    assert weights[:60].min() == 0
    for index in (60, int(np.flatnonzero(weights == 0)[0])):
        spoiled = X.copy()
        spoiled[index] = np.nan
        for stream in (Pairs(spoiled, weights), Store(spoiled)):
            given = True if isinstance(stream, IterableDataset) else weights
            message = f"sample {index} of batch 0, which is sample {index} in total"
            with pytest.raises(ValueError, match=message):
                make(DropIn).fit(stream, sample_weight=given)


def test_too_few_rows_of_weight(X):
    few = np.where(np.arange(NUM_ROWS) < 2, 1.0, 0.0)
    with pytest.raises(ValueError, match="n_components = 3, n_samples = 2"):
        make(DropIn, 3).fit(Pairs(X, few), sample_weight=True)


def test_a_stream_that_ends_for_ever(X, weights):
    with pytest.raises(ValueError, match="was empty when it was iterated over again"):
        make(DropIn).fit(OneShot(list(zip(X, weights, strict=True))), sample_weight=True)
