"""Data with gaps: EM on what was observed, in both classes and however the data are read."""

import pickle
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from sklearn_torch_gmm import GaussianMixtureIC
from sklearn_torch_gmm._estimator.fit_data import read_data
from sklearn_torch_gmm._selection.agreement import mean_agreement
from sklearn_torch_gmm.em.restarts import Restart
from sklearn_torch_gmm.mixture import BayesianGaussianMixture
from sklearn_torch_gmm.mixture import GaussianMixture as DropIn
from tests.core import gap_oracle
from tests.core.oracle import Mixture, draw_rows
from tests.core.steps import as_parameters, mixture_of
from tests.estimators import (
    MIXTURE_CLASSES,
    TYPES,
    assert_same_mixture,
    expected_failed_checks,
    make,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

NUM_ROWS = 150

ROUNDING = {"rtol": 1e-10, "atol": 1e-10}


class Stream(IterableDataset):
    def __init__(self, rows: np.ndarray) -> None:
        self.rows = torch.tensor(rows)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self.rows)


def as_dataset(rows: np.ndarray) -> TensorDataset:
    return TensorDataset(torch.tensor(rows))


@pytest.fixture(params=TYPES)
def name(request):
    return request.param


@pytest.fixture
def X(rng):
    # Two components that hardly overlap, so that every start finds the same.
    mixture = mixture_of(rng, "full", 2, 4)
    means = np.array([[0.0] * 4, [6.0] * 4])
    return gap_oracle.with_gaps(rng, draw_rows(rng, mixture._replace(means=means), NUM_ROWS))


def fitted(name, X, sample_weight=None, **options):
    options = {"tol": 0.0, "max_iter": 8, "random_state": 0, "missing": "em", **options}
    return DropIn(2, covariance_type=name, **options).fit(X, sample_weight=sample_weight)


def assert_same_fit(actual, expected):
    for attribute in ("weights_", "means_", "covariances_", "lower_bounds_"):
        # Sums of 150 rows in another order: 1e-14.
        np.testing.assert_allclose(
            getattr(actual, attribute), getattr(expected, attribute), **ROUNDING
        )


@pytest.mark.parametrize("weighted", [False, True])
def test_a_fit_is_brute_force(rng, name, weighted):
    mixture = mixture_of(rng, name, 2, 3)
    rows = gap_oracle.with_gaps(rng, draw_rows(rng, mixture, 60))
    weights = rng.integers(1, 4, 60).astype(float) if weighted else None
    precisions = np.linalg.inv(mixture.matrices)
    form = {
        "full": precisions,
        "tied": precisions[0],
        "diag": np.diagonal(precisions, axis1=1, axis2=2),
        "spherical": precisions[:, 0, 0],
    }
    options = {"weights_init": mixture.weights, "means_init": mixture.means, "max_iter": 15}
    actual = fitted(name, rows, weights, precisions_init=form[name], **options)
    expected, bounds = mixture, []
    for _ in range(15):
        expected, bound = gap_oracle.iterate(name, expected, rows, weights, 1e-6)
        bounds.append(bound)
    assert_same_mixture(actual, expected, 1e-10)
    np.testing.assert_allclose(actual.lower_bounds_, bounds, **ROUNDING)
    found = gap_oracle.expected(expected, rows)
    np.testing.assert_allclose(actual.score_samples(rows), found.log_densities, **ROUNDING)
    np.testing.assert_allclose(actual.predict_proba(rows), found.responsibilities, **ROUNDING)
    np.testing.assert_array_equal(actual.predict(rows), found.responsibilities.argmax(1))
    np.testing.assert_array_equal(actual.labels_, actual.predict(rows))
    mean = np.average(found.log_densities, weights=weights)
    assert actual.score(rows, sample_weight=weights) == pytest.approx(mean, rel=1e-10)


def test_both_classes_find_the_same(name, X):
    first, second = (
        make(cls, 2, covariance_type=name, missing="em", random_state=0, iterations=8).fit(X)
        for cls in MIXTURE_CLASSES
    )
    assert_same_fit(first, second)


@pytest.mark.parametrize("kind", ["batches", "tensor", "dataset", "loader", "stream", "file"])
def test_the_way_of_the_rows_changes_nothing(tmp_path, name, X, kind):
    np.save(tmp_path / "X.npy", X)
    data = {
        "batches": X,
        "tensor": torch.tensor(X),
        "dataset": TensorDataset(torch.tensor(X)),
        "loader": DataLoader(TensorDataset(torch.tensor(X)), batch_size=31),
        "stream": Stream(X),
        "file": np.load(tmp_path / "X.npy", mmap_mode="r"),
    }
    batch_size = None if kind in ("tensor", "loader") else 37
    actual, expected = fitted(name, data[kind], batch_size=batch_size), fitted(name, X)
    assert_same_fit(actual, expected)
    np.testing.assert_allclose(
        actual.score_samples(data[kind]), expected.score_samples(X), **ROUNDING
    )


def test_weights_stand_for_copies(name, X):
    weights = np.arange(NUM_ROWS) % 3
    copies = np.repeat(X, weights, axis=0)
    means = {"means_init": [[0.0] * 4, [6.0] * 4]}
    # K-means draws differently, and finds the same two clusters.
    assert_same_fit(fitted(name, X, weights, **means), fitted(name, copies, **means))


@pytest.mark.parametrize("most", [1, 3])
def test_weights_in_arithmetic_of_float32(rng, name, most):
    # Rows that lack one value, or up to three.
    rows = draw_rows(rng, mixture_of(rng, name, 2, 4), 400)
    for row in rows[::3]:
        row[rng.choice(4, rng.integers(1, most + 1), replace=False)] = np.nan
    weights = rng.uniform(0.5, 2.0, 400)
    double, single = (
        DropIn(2, covariance_type=name, missing="em", random_state=0, trainer_params=params).fit(
            rows, sample_weight=weights
        )
        for params in (None, {"precision": "32-true"})
    )
    # Values of the order of one are rounded by 1e-7, in each of up to ten iterations.
    np.testing.assert_allclose(single.means_, double.means_, atol=1e-5)
    np.testing.assert_allclose(single.lower_bound_, double.lower_bound_, atol=1e-5)


def test_complete_data_give_the_same_bits(rng, name):
    X = rng.standard_normal((NUM_ROWS, 3)) + 3.0 * rng.integers(0, 2, (NUM_ROWS, 1))
    ours, plain = fitted(name, X), fitted(name, X, missing="error")
    for attribute in ("weights_", "means_", "covariances_", "lower_bounds_"):
        np.testing.assert_array_equal(getattr(ours, attribute), getattr(plain, attribute))
    np.testing.assert_array_equal(ours.score_samples(X), plain.score_samples(X))


@pytest.mark.parametrize("start", ["kmeans", "k-means++", "random", "random_from_data"])
def test_starts_need_no_complete_row(rng, name, start):
    X = rng.standard_normal((60, 3)) + 5.0 * rng.integers(0, 2, (60, 1))
    X[np.arange(60), np.arange(60) % 3] = np.nan
    mixture = fitted(name, X, init_params=start, reg_covar=1e-3, n_init=2)
    assert np.isfinite(mixture.means_).all()
    # Regularization lets the likelihood fall by less than this.
    assert np.diff(mixture.lower_bounds_).min() > -1e-3


def test_one_column(name):
    X = np.array([[0.0], [1.0], [np.nan], [9.0], [10.0], [np.nan]])
    mixture = fitted(name, X)
    np.testing.assert_allclose(np.sort(mixture.means_.ravel()), [0.5, 9.5], atol=1e-3)
    np.testing.assert_allclose(mixture.score_samples(X)[2], 0.0, atol=1e-12)
    np.testing.assert_allclose(mixture.predict_proba(X)[2], mixture.weights_)


def test_updates_follow_batches_with_gaps(name, X):
    # Not K-means: of some seeds' first fifty samples, it divides one cluster.
    means = [[1.0] * 4, [5.0] * 4]
    mixture = DropIn(2, covariance_type=name, missing="em", means_init=means, random_state=0)
    for start in range(0, NUM_ROWS, 50):
        mixture.partial_fit(X[start : start + 50])
    assert mixture.n_samples_seen_ == NUM_ROWS
    by_first = mixture.means_[mixture.means_[:, 0].argsort()]
    np.testing.assert_allclose(by_first, [[0.0] * 4, [6.0] * 4], atol=1.0)


def test_an_update_without_memory_is_an_iteration(rng, name, X):
    start = fitted(name, X, max_iter=1)
    before = Mixture(
        start.weights_,
        start.means_,
        start.model_.structure.matrices(
            torch.tensor(start.covariances_), *start.means_.shape
        ).numpy(),
    )
    expected, _ = gap_oracle.iterate(name, before, X, regularization=1e-6)
    # A mixture that has seen nothing takes a batch as all of the data.
    start.n_samples_seen_ = 0.0
    assert_same_mixture(start.partial_fit(X), expected, 1e-10)


def test_fixed_parts_stay(name, X):
    means = np.array([[0.0] * 4, [6.0] * 4])
    mixture = fitted(name, X, means_init=means, fixed=("means",))
    np.testing.assert_array_equal(mixture.means_, means)


def test_a_search_fits_what_single_fits_find(X):
    options = {"tol": 0.0, "max_iter": 5, "random_state": 0, "missing": "em"}
    search = GaussianMixtureIC(1, 2, **options).fit(X)
    single = DropIn(search.n_components_, covariance_type=search.covariance_type_, **options).fit(X)
    assert_same_fit(search.best_estimator_, single)
    assert search.score(X) == pytest.approx(single.score(X), rel=1e-10)
    held_out = GaussianMixtureIC(1, 2, criterion="cv", cv=3, **options).fit(X)
    assert np.isfinite(held_out.results_["mean_test_score"]).all()


@pytest.mark.parametrize("wrap", [np.asarray, torch.tensor, as_dataset])
def test_samples_without_values_do_not_agree(rng, wrap):
    mixtures = [mixture_of(rng, "diag", 4, 2) for _ in range(3)]
    restarts = [Restart(as_parameters("diag", mixture)) for mixture in mixtures]
    candidate = make(MIXTURE_CLASSES[0], 4, covariance_type="diag", missing="em")
    X = rng.uniform(-2.0, 2.0, size=(100, 2))
    X[:40, 1] = np.nan
    empty = np.full((1000, 2), np.nan)
    found = [
        mean_agreement([candidate], [restarts], read_data(clone(candidate), wrap(rows), None))
        for rows in (X, np.vstack([empty, X]))
    ]
    assert found[0] == found[1]


def test_saved_mixtures_take_gaps(tmp_path, X):
    mixture = fitted("full", X)
    mixture.save(tmp_path / "mixture")
    for copy in (DropIn.load(tmp_path / "mixture"), pickle.loads(pickle.dumps(mixture))):
        np.testing.assert_array_equal(copy.predict_proba(X), mixture.predict_proba(X))
    assert mixture.sample(5)[0].shape == (5, 4)
    assert clone(mixture).missing == "em"


def test_scikit_learn_gets_the_parameters_and_a_warning(X):
    mixture = fitted("full", X)
    with pytest.warns(UserWarning, match="missing='em'"):
        theirs = mixture.to_sklearn()
    np.testing.assert_array_equal(theirs.means_, mixture.means_)
    assert "missing" not in theirs.get_params()


@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
def test_the_tag_follows_the_parameter(cls):
    assert not get_tags(cls()).input_tags.allow_nan
    assert get_tags(cls(missing="em")).input_tags.allow_nan
    assert get_tags(GaussianMixtureIC(missing="em")).input_tags.allow_nan


@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
def test_what_is_refused(cls, X):
    X = X[1:]
    with pytest.raises(ValueError, match=r"contains NaN\.\nIt is in sample \d+.* missing='em'"):
        cls(2).fit(X)
    with pytest.raises(ValueError, match=r"contains infinity[\s\S]*It is in sample 3"):
        cls(2, missing="em").fit(np.where(np.arange(len(X))[:, None] == 3, np.inf, X))
    with pytest.raises(ValueError, match=r"Column 2 has no value in any of 149 samples"):
        cls(2, missing="em").fit(np.where(np.arange(4) == 2, np.nan, X))
    with pytest.raises(ValueError, match="sample_weight contains NaN"):
        cls(2, missing="em").fit(X, sample_weight=np.full(len(X), np.nan))
    with pytest.raises(ValueError, match="'missing' parameter"):
        cls(2, missing="mean").fit(X)


def test_streams_name_infinities_and_columns_without_values(X):
    far = np.where(np.arange(NUM_ROWS)[:, None] == 3, -np.inf, X)
    with pytest.raises(ValueError, match="contains infinity: sample 3 of batch 0"):
        fitted("full", Stream(far))
    with pytest.raises(ValueError, match="Column 2 has no value"):
        fitted("full", Stream(np.where(np.arange(4) == 2, np.nan, X)))
    with pytest.raises(ValueError, match="contains infinity: sample 3"):
        fitted("full", X).score_samples(Stream(far))


def test_the_bayesian_class_does_not_have_it():
    with pytest.raises(TypeError, match="missing"):
        BayesianGaussianMixture(missing="em")


def test_a_subclass_with_hooks_refuses_it(X):
    class Own(DropIn):
        def _m_step(self, *args, **kwargs):
            return super()._m_step(*args, **kwargs)

    with pytest.raises(TypeError, match="missing='em'"):
        Own(2, missing="em").fit(X)


@parametrize_with_checks(
    [cls(missing="em") for cls in MIXTURE_CLASSES], expected_failed_checks=expected_failed_checks
)
def test_estimators_pass_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


QUANTITIES = ["predict", "predict_proba", "score_samples", "component_log_densities"]


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_samples_of_float32_get_answers_of_float32(rng, name, quantity):
    X = gap_oracle.with_gaps(rng, draw_rows(rng, mixture_of(rng, name, 2, 3), NUM_ROWS))
    mixture = DropIn(2, covariance_type=name, missing="em", random_state=0).fit(X)
    exact = getattr(mixture, quantity)(X)
    single = getattr(mixture, quantity)(X.astype(np.float32))
    assert single.dtype == (np.int64 if quantity == "predict" else np.float32)
    # The samples themselves are rounded to 6e-8, and log-densities multiply that.
    np.testing.assert_allclose(single, exact, rtol=1e-4, atol=1e-4)


def test_samples_without_any_value_are_not_drawn_as_means():
    X = np.vstack([[[1.0, 2.0], [3.0, 5.0]], np.full((4, 2), np.nan)])
    mixture = DropIn(3, missing="em", init_params="random_from_data", random_state=0)
    with pytest.raises(ValueError, match="needs 3 samples that have a weight and a value, got 2"):
        mixture.fit(X)
    two = mixture.set_params(n_components=2).fit(X)
    np.testing.assert_allclose(np.sort(two.means_, axis=0), X[:2], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["Float64", "Int64", "Float32"])
def test_missing_values_of_pandas_are_named_and_taken(X, dtype):
    rows = X.round()
    frame = pd.DataFrame(rows).astype(dtype)
    with pytest.raises(ValueError, match=r"in sample \d.*set missing='em' to use the observed"):
        DropIn(2).fit(frame)
    params = {"missing": "em", "random_state": 0, "reg_covar": 0.1}
    expected = DropIn(2, **params).fit(rows)
    np.testing.assert_allclose(DropIn(2, **params).fit(frame).means_, expected.means_, rtol=1e-5)


def test_samples_without_any_value_are_no_cluster():
    rng = np.random.default_rng(1)
    centres = np.array([[-10.0, 0.0], [10.0, 0.0], [10.0, 6.0]])
    X = np.repeat(centres, 100, axis=0) + rng.normal(size=(300, 2))
    empty = np.full((150, 2), np.nan)
    mixture = DropIn(3, missing="em", random_state=0).fit(np.vstack([X, empty]))
    np.testing.assert_allclose(mixture.weights_, 1 / 3, rtol=1e-2)
