"""Starts of one's own: functions, labels and responsibilities in the place of a name."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.cluster import DBSCAN, AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV
from torch.utils.data import TensorDataset

from sklearn_torch_gmm.exceptions import EmptyComponentWarning
from tests.core.oracle import Mixture, WeightedSums, weighted_sums, with_structure
from tests.estimators import MIXTURE_CLASSES, TYPES, DropIn, TorchMixture, make, start_parameter

each_class = pytest.mark.parametrize("cls", MIXTURE_CLASSES, ids=["documented", "drop-in"])
each_type = pytest.mark.parametrize("covariance_type", TYPES)

CENTRES = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
REGULARIZATION = 0.01


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(3, size=80)


@pytest.fixture
def X(labels):
    return CENTRES[labels] + np.random.default_rng(1).standard_normal((80, 2))


@pytest.fixture
def shares():
    """Responsibilities [N, K]."""
    return np.random.default_rng(2).dirichlet(np.ones(3), size=80)


def one_hot(labels):
    return np.eye(3)[labels]


def at_centres(X, num_components, random_state):
    return CENTRES[:num_components]


def at_random_rows(X, num_components, random_state):
    return X[random_state.choice(len(X), num_components, replace=False)]


def by_agglomeration(X, num_components, random_state):
    return AgglomerativeClustering(num_components).fit_predict(X)


def start_of(cls, rows, start, sample_weight=None, **params):
    """What EM begins with: the result of a fit without iterations."""
    mixture = make(
        cls, 3, start=start, iterations=0, regularization=REGULARIZATION, random_state=0, **params
    )
    return mixture.fit(rows, sample_weight=sample_weight)


def mixture_from(sums: WeightedSums, covariance_type) -> Mixture:
    mixture = Mixture(sums.weights, sums.means, sums.within)
    mixture = with_structure(covariance_type, mixture, sums.counts)
    return mixture._replace(matrices=mixture.matrices + REGULARIZATION * np.eye(2))


def assert_is(estimator, expected: Mixture, tolerance=1e-10, offset=0.0):
    matrices = estimator.model_.structure.matrices(torch.tensor(estimator.covariances_), 3, 2)
    np.testing.assert_allclose(estimator.weights_, expected.weights, rtol=tolerance)
    np.testing.assert_allclose(
        estimator.means_ - offset, expected.means, rtol=tolerance, atol=tolerance
    )
    np.testing.assert_allclose(matrices, expected.matrices, rtol=tolerance, atol=tolerance)


# -- what they start from, by hand ----------------------------------------------------------------


@each_class
@each_type
@pytest.mark.parametrize("weighted", [False, True])
def test_responsibilities_become_parameters_by_one_m_step(
    X, shares, cls, covariance_type, weighted
):
    weights = np.random.default_rng(3).integers(0, 3, size=80) if weighted else None
    expected = mixture_from(weighted_sums(X, shares.T, weights), covariance_type)
    actual = start_of(cls, X, shares, weights, covariance_type=covariance_type)
    assert_is(actual, expected)


@each_class
@each_type
@pytest.mark.parametrize("weighted", [False, True])
def test_labels_are_responsibilities_of_zero_and_one(X, labels, cls, covariance_type, weighted):
    # Not the true ones: the start must not be where EM ends.
    labels = np.roll(labels, 1)
    weights = np.random.default_rng(3).integers(0, 3, size=80) if weighted else None
    expected = mixture_from(weighted_sums(X, one_hot(labels).T, weights), covariance_type)
    for start in (labels, one_hot(labels)):
        actual = start_of(cls, X, start, weights, covariance_type=covariance_type)
        assert_is(actual, expected)
    # A function sees the rows that have any weight.
    kept = np.ones(80, dtype=bool) if weights is None else weights > 0

    def function(rows, num_components, random_state):
        return labels[kept]

    assert_is(start_of(cls, X, function, weights, covariance_type=covariance_type), expected)


@each_class
@each_type
@pytest.mark.parametrize("weighted", [False, True])
def test_means_get_the_rows_nearest_to_them(X, cls, covariance_type, weighted):
    """They stay where they are, and the covariances are the scatter about them."""
    weights = np.random.default_rng(3).integers(1, 4, size=80) if weighted else np.ones(80)
    nearest = ((X[:, None] - CENTRES) ** 2).sum(-1).argmin(1)
    counts, scatters = [], []
    for k, centre in enumerate(CENTRES):
        own = nearest == k
        counts.append(weights[own].sum())
        differences = X[own] - centre
        scatters.append((weights[own] * differences.T) @ differences / counts[-1])
    expected = mixture_from(
        WeightedSums(np.array(counts), CENTRES, np.array(scatters)), covariance_type
    )
    params = {"covariance_type": covariance_type, "sample_weight": weights}
    assert_is(start_of(cls, X, at_centres, **params), expected)
    if cls is TorchMixture:
        assert_is(start_of(cls, X, "random", init_means=CENTRES, **params), expected)


@each_class
@each_type
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["labels", "function"])
def test_unknown_labels_are_those_of_the_nearest_known_mean(
    X, labels, cls, covariance_type, weighted, kind
):
    weights = np.arange(80) % 4 if weighted else np.ones(80)
    rng = np.random.default_rng(3)
    some = np.where(rng.uniform(size=80) < 0.8, -1, labels)
    # Wrongly labelled, and never assigned elsewhere.
    some[:3] = [0, 1, 2]
    means = []
    for k in range(3):
        total, count = np.zeros(2), 0.0
        for row, label, weight in zip(X, some, weights, strict=True):
            if label == k:
                total, count = total + weight * row, count + weight
        means.append(total / count)
    completed = some.copy()
    for i in np.flatnonzero(some == -1):
        completed[i] = np.argmin([((X[i] - mean) ** 2).sum() for mean in means])
    expected = mixture_from(weighted_sums(X, one_hot(completed).T, weights), covariance_type)
    start = some if kind == "labels" else lambda X, k, random_state: some[weights > 0]
    sample_weight = weights if weighted else None
    params = {"covariance_type": covariance_type}
    assert_is(start_of(cls, X, start, sample_weight, **params), expected)


@each_class
def test_a_known_sample_of_weight_zero_is_not_known(X, labels, cls):
    some = np.where(np.arange(80) < 40, labels, -1)
    weights = np.where(some == 1, 0.0, 1.0)
    with pytest.raises(ValueError, match="No sample of positive weight is labelled 1"):
        make(cls, 3, start=some).fit(X, sample_weight=weights)


@each_class
def test_noise_of_a_clustering_is_unknown(X, labels, cls):
    def by_density(X, num_components, random_state):
        return DBSCAN(eps=0.9, min_samples=4).fit_predict(X)

    found = by_density(X, 3, None)
    assert set(found) == {-1, 0, 1, 2}
    mixture = make(cls, 3, start=by_density).fit(X)
    assert adjusted_rand_score(labels, mixture.labels_) > 0.9


@each_type
def test_far_from_the_origin(X, labels, shares, covariance_type):
    offset = 1e8
    X = np.round(X, 6)
    for start, parts in [(labels, one_hot(labels)), (shares, shares)]:
        expected = mixture_from(weighted_sums(X, parts.T), covariance_type)
        actual = start_of(TorchMixture, X + offset, start, covariance_type=covariance_type)
        # Rows at 1e8 are rounded to 1.5e-8.
        assert_is(actual, expected, 1e-6, offset)


@each_class
def test_one_component(X, cls):
    expected = make(cls, 1).fit(X)
    for start in (np.zeros(80, dtype=int), np.ones((80, 1)), lambda X, k, rng: [[1.0, 1.0]]):
        mixture = make(cls, 1, start=start).fit(X)
        np.testing.assert_allclose(mixture.means_, expected.means_, rtol=1e-12)
        np.testing.assert_allclose(mixture.covariances_, expected.covariances_, rtol=1e-12)


@each_class
def test_any_clustering_can_be_a_start(X, labels, cls):
    mixture = make(cls, 3, start=by_agglomeration).fit(X)
    # The clusters are those that the rows were drawn from, under other names.
    assert adjusted_rand_score(labels, mixture.labels_) > 0.85


def test_parts_that_are_given_replace_what_the_start_finds(X, labels):
    mixture = DropIn(3, init_params=labels, means_init=CENTRES, max_iter=0).fit(X)
    np.testing.assert_array_equal(mixture.means_, CENTRES)
    np.testing.assert_allclose(mixture.weights_, np.bincount(labels) / 80)


def test_init_means_come_before_the_strategy(X, labels):
    mixture = TorchMixture(
        3, init_strategy=labels[:5], init_means=CENTRES, trainer_params=NO_EPOCHS
    )
    np.testing.assert_array_equal(mixture.fit(X).means_, CENTRES)


NO_EPOCHS = {"max_epochs": 0}


# -- what a function is given ---------------------------------------------------------------------


@each_class
def test_a_function_is_called_for_each_start_with_one_random_state(X, cls):
    calls = []

    def function(rows, num_components, random_state):
        calls.append((rows.copy(), num_components, random_state))
        return at_random_rows(rows, num_components, random_state)

    mixture = make(cls, 3, start=function, starts=4, random_state=7).fit(X)
    assert len(calls) == 4
    for rows, num_components, random_state in calls:
        np.testing.assert_array_equal(rows, X)
        assert num_components == 3
        assert isinstance(random_state, np.random.RandomState)
        assert random_state is calls[0][2]
    # The best of four is the best of the first, and of three more.
    first = make(cls, 3, start=at_random_rows, random_state=7).fit(X)
    assert mixture.lower_bound_ >= first.lower_bound_


@each_class
def test_a_function_sees_the_rows_that_have_weight(X, cls):
    weights = np.arange(80) % 2
    seen = []

    def function(rows, num_components, random_state):
        seen.append(rows)
        return at_centres(rows, num_components, random_state)

    for rows in (X, torch.tensor(X), TensorDataset(torch.tensor(X))):
        make(cls, 3, start=function).fit(rows, sample_weight=weights)
    assert len(seen) == 3
    for rows in seen:
        assert isinstance(rows, np.ndarray)
        np.testing.assert_array_equal(rows, X[weights > 0])


@each_class
def test_a_function_in_a_grid_search(X, cls):
    name = "num_components" if cls is TorchMixture else "n_components"
    search = GridSearchCV(make(cls, start=at_centres), {name: [1, 2, 3]}, cv=3).fit(X)
    assert search.best_params_ == {name: 3}


# -- kinds of arrays, and of rows -----------------------------------------------------------------


@each_class
@pytest.mark.parametrize(
    "convert",
    [
        np.ndarray.tolist,
        torch.tensor,
        lambda a: a.astype(np.float32),
        lambda a: pd.Series(a) if a.ndim == 1 else pd.DataFrame(a),
        lambda a: np.ascontiguousarray(a[::-1])[::-1],
        lambda a: a.astype(a.dtype.newbyteorder()),
    ],
    ids=["list", "tensor", "float32", "pandas", "reversed", "other byte order"],
)
def test_kinds_of_arrays(X, labels, shares, cls, convert):
    for start in (labels, shares):
        expected = make(cls, 3, start=start, random_state=0).fit(X)
        mixture = make(cls, 3, start=convert(start), random_state=0).fit(X)
        # Shares in float32 are rounded to 6e-8, and EM from them magnifies that.
        np.testing.assert_allclose(mixture.means_, expected.means_, atol=1e-3)


@pytest.mark.parametrize(
    "convert",
    [pd.DataFrame, lambda a: np.ascontiguousarray(a[::-1])[::-1], lambda a: a.astype(">f8")],
    ids=["pandas", "reversed", "other byte order"],
)
def test_kinds_of_given_parameters(X, convert):
    """Those that pandas gives cannot be written to, which torch would warn of."""
    expected = TorchMixture(3, init_means=CENTRES).fit(X)
    mixture = TorchMixture(3, init_means=convert(CENTRES)).fit(X)
    np.testing.assert_array_equal(mixture.means_, expected.means_)
    precisions = np.array([[2.0, 0.5], [0.5, 1.0]])
    params = {"covariance_type": "tied", "weights_init": [0.2, 0.3, 0.5]}
    expected = DropIn(3, means_init=CENTRES, precisions_init=precisions, **params).fit(X)
    mixture = DropIn(
        3, means_init=convert(CENTRES), precisions_init=convert(precisions), **params
    ).fit(X)
    np.testing.assert_array_equal(mixture.means_, expected.means_)


@each_class
@pytest.mark.parametrize("kind", ["labels", "shares", "function"])
@pytest.mark.parametrize(
    ("convert", "batch_size"),
    [(np.asarray, 7), (torch.tensor, None), (lambda X: TensorDataset(torch.tensor(X)), 16)],
    ids=["batches", "tensor", "dataset"],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_kinds_of_rows(X, labels, shares, cls, kind, convert, batch_size, weighted):
    start = {"labels": np.roll(labels, 1), "shares": shares, "function": by_agglomeration}[kind]
    weights = np.random.default_rng(3).integers(0, 3, size=80) if weighted else None
    params = {"start": start, "tolerance": 0.01}
    expected = make(cls, 3, **params).fit(X, sample_weight=weights)
    mixture = make(cls, 3, batch_size=batch_size, **params).fit(convert(X), sample_weight=weights)
    assert mixture.n_iter_ == expected.n_iter_
    np.testing.assert_allclose(mixture.means_, expected.means_, rtol=1e-9, atol=1e-9)


@each_class
def test_several_starts_from_an_array_are_one(X, shares, cls):
    one, many = (make(cls, 3, start=shares, starts=n, tolerance=0.01).fit(X) for n in (1, 3))
    assert one.lower_bounds_ == many.lower_bounds_


# -- scikit-learn's tools -------------------------------------------------------------------------


@each_class
def test_a_parameter_that_is_an_array(X, labels, shares, cls):
    name = start_parameter(cls)
    for start in (labels, shares):
        mixture = make(cls, 3, start=start)
        # scikit-learn's clone insists that the constructor stores what it is given.
        assert mixture.get_params()[name] is start
        copied = clone(mixture)
        np.testing.assert_array_equal(copied.get_params()[name], start)
        assert "array(" in repr(mixture)
        assert "GaussianMixture" in mixture._repr_html_()
        mixture.fit(X)
        assert mixture.get_params()[name] is start
        assert "array(" in repr(mixture)
        assert "GaussianMixture" in mixture._repr_html_()
        unpickled = pickle.loads(pickle.dumps(mixture))
        np.testing.assert_array_equal(unpickled.get_params()[name], start)
        np.testing.assert_array_equal(unpickled.predict(X), mixture.predict(X))
        np.testing.assert_array_equal(copied.fit(X).means_, mixture.means_)
        mixture.set_params(**{name: "kmeans"}).fit(X)


@each_class
def test_a_parameter_that_is_a_function(X, cls):
    name = start_parameter(cls)
    mixture = make(cls, 3, start=at_centres).fit(X)
    for copied in (clone(mixture), pickle.loads(pickle.dumps(mixture))):
        assert copied.get_params()[name] is at_centres
    assert "at_centres" in repr(mixture)
    assert "at_centres" in mixture._repr_html_()


@each_class
def test_an_array_goes_into_a_directory_with_the_estimator(X, shares, cls, tmp_path):
    make(cls, 3, start=shares).save(tmp_path / "mixture")
    loaded = cls.load(tmp_path / "mixture")
    np.testing.assert_array_equal(loaded.get_params()[start_parameter(cls)], shares)


# -- what is no start -----------------------------------------------------------------------------


def of_shape(*shape):
    return lambda X, k, random_state: np.zeros(shape)


@each_class
@pytest.mark.parametrize("as_dataset", [False, True], ids=["array", "dataset"])
@pytest.mark.parametrize(
    ("start", "message"),
    [
        (of_shape(2, 2), r"\(3, 2\) or labels .* \(80,\), got an array of shape \(2, 2\)"),
        (of_shape(3, 1), r"got an array of shape \(3, 1\)"),
        (of_shape(80, 3), r"got an array of shape \(80, 3\)"),
        (of_shape(79), r"got an array of shape \(79,\)"),
        (of_shape(), r"got an array of shape \(\)"),
        (lambda X, k, rng: None, r"got an array of shape \(\) and type object"),
        (lambda X, k, rng: np.full(80, 3), "labels from 0 to 2, .* with the value 3"),
        (lambda X, k, rng: np.full(80, -2), "labels from 0 to 2, or -1 .* with the value -2"),
        (lambda X, k, rng: np.full(80, 0.5), "labels from 0 to 2, .* with the value 0.5"),
        (lambda X, k, rng: np.full(80, np.nan), "labels from 0 to 2, .* with the value nan"),
        (lambda X, k, rng: ["a"] * 80, "labels from 0 to 2, .* with the value a"),
        (lambda X, k, rng: np.full((3, 2), np.nan), "must return finite means"),
        (np.full(80, 3), "integers from 0 to 2, or -1 for unknown, got values from 3 to 3"),
        (np.full(80, -2), "or -1 for unknown, got values from -2 to -2"),
        (np.full(80, -1), "No sample of positive weight is labelled 0. Labels of -1, .* 3 comp"),
        (np.arange(80) % 3 - 1, "No sample of positive weight is labelled 2"),
        (lambda X, k, rng: np.full(80, -1), "No sample of positive weight is labelled 0"),
        (np.full(80, 0.5), "integers from 0 to 2, .* got values from 0.5 to 0.5"),
        (np.zeros(79), "initialization has values for 79 samples, .* 80 samples"),
        (np.full((79, 3), 1 / 3), "initialization has values for 79 samples, .* 80 samples"),
        (np.ones((80, 2)) / 2, r"\(N, K\) with K = 3, got shape \(80, 2\)"),
        (np.ones((80, 3)), "must sum to one for each sample"),
        (np.tile([2.0, -1.0, 0.0], (80, 1)), "must not be negative"),
        (np.full((80, 3), np.nan), r"Input init_\w+ contains NaN"),
        (np.zeros((80, 3, 1)), r"got shape \(80, 3, 1\)"),
        (["a"] * 80, r"could not convert string to float: .*np\.unique\(labels, return_inverse"),
        ([], "0 sample"),
        ("kmedoids", "parameter of GaussianMixture must be"),
        (None, "parameter of GaussianMixture must be"),
    ],
)
def test_what_is_no_start(X, cls, as_dataset, start, message):
    rows = TensorDataset(torch.tensor(X)) if as_dataset else X
    with pytest.raises(ValueError, match=message):
        make(cls, 3, start=start).fit(rows)


@each_class
def test_an_error_of_the_function_comes_through(X, cls):
    def function(X, num_components, random_state):
        raise ZeroDivisionError("of my own")

    with pytest.raises(ZeroDivisionError, match="of my own"):
        make(cls, 3, start=function).fit(X)


@each_class
@pytest.mark.parametrize("kind", ["labels", "function"])
def test_a_component_that_starts_without_rows_is_warned_of(X, labels, cls, kind):
    labels = np.minimum(labels, 1)
    start = labels if kind == "labels" else lambda X, k, random_state: labels
    with pytest.warns(EmptyComponentWarning, match=r"Components \[2\] lost all their samples"):
        mixture = make(cls, 3, start=start).fit(X)
    assert mixture.weights_[2] == 0.0
    assert np.isfinite(mixture.means_).all()


@each_class
def test_a_function_cannot_write_to_the_data(X, cls):
    def centred_in_place(rows, num_components, random_state):
        rows -= rows.mean(0)
        return rows[:num_components]

    before = X.copy()
    with pytest.raises(ValueError, match="read-only"):
        make(cls, 2, start=centred_in_place).fit(X)
    np.testing.assert_array_equal(X, before)
