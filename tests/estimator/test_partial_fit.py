"""Stepwise EM through the estimators: batch after batch, from cold or after a fit."""

import copy
import inspect
import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn.mixture
import torch
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from torch.utils.data import DataLoader, TensorDataset

from sklearn_torch_gmm.exceptions import EmptyComponentWarning, IllDefinedCovarianceError
from tests.core.oracle import log_densities, moved
from tests.estimators import (
    MIXTURE_CLASSES,
    TYPES,
    DropIn,
    TorchMixture,
    assert_same_mixture,
    fitted_mixture,
    make,
    start_parameter,
)

each_class = pytest.mark.parametrize("cls", MIXTURE_CLASSES, ids=["documented", "drop-in"])
each_type = pytest.mark.parametrize("covariance_type", TYPES)

CENTRES = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
REGULARIZATION = 1e-6


def clusters(num_rows, seed=0, offset=0.0):
    """Three clear clusters, in random order."""
    X, _ = make_blobs(num_rows, centers=CENTRES, random_state=seed)
    return X + offset


def batches(X, size):
    return [X[start : start + size] for start in range(0, len(X), size)]


# -- how well -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "covariance_type", "size"),
    [
        (TorchMixture, "full", 100),
        (DropIn, "tied", 1000),
        (DropIn, "diag", 1000),
        (TorchMixture, "spherical", 1000),
    ],
)
def test_one_pass_comes_close_to_a_full_fit(cls, covariance_type, size):
    X = clusters(60_000)
    params = {"covariance_type": covariance_type, "random_state": 0, "tolerance": 1e-9}
    full = make(cls, 3, **params).fit(X)
    mixture = make(cls, 3, **params)
    for batch in batches(X, size):
        mixture.partial_fit(batch)
    assert full.score(X) - mixture.score(X) < 0.01
    assert mixture.n_samples_seen_ == 60_000
    assert mixture.n_iter_ == 60_000 // size
    assert mixture.converged_ is False


@pytest.mark.parametrize("offset", [1e4, 1e8])
def test_distance_from_the_origin_costs_nothing(offset):
    near, far = (TorchMixture(3, covariance_type="full", random_state=0) for _ in range(2))
    for batch in batches(clusters(4000), 100):
        near.partial_fit(batch)
        far.partial_fit(batch + offset)
    # At 1e8 a number is rounded to 1.5e-8.
    np.testing.assert_allclose(far.means_ - offset, near.means_, atol=1e-6)
    np.testing.assert_allclose(far.covariances_, near.covariances_, atol=1e-6)


def test_it_follows_a_drift_the_closer_the_smaller_the_exponent():
    rng = np.random.default_rng(0)
    errors = {}
    for exponent in (0.55, 0.7, 1.0):
        mixture = TorchMixture(2, random_state=0)
        for step in range(200):
            centre = np.array([5.0 * step / 200, 0.0])
            labels = rng.integers(2, size=100)
            X = centre + 10.0 * labels[:, None] + rng.standard_normal((100, 2))
            mixture.partial_fit(X, step_exponent=exponent)
        order = np.argsort(mixture.means_[:, 0])
        errors[exponent] = np.abs(mixture.means_[order] - [centre, centre + 10.0]).max()
    assert errors[0.55] < 0.6
    assert errors[0.55] < errors[0.7] < errors[1.0]
    # With an exponent of one it is the mean of all that was seen.
    assert errors[1.0] == pytest.approx(2.5, abs=0.2)


# -- the rule by hand -----------------------------------------------------------------------------


@each_class
@each_type
@pytest.mark.parametrize("exponent", [None, 0.6, 1.0])
def test_two_batches_by_hand(cls, covariance_type, exponent):
    """The first is an iteration of EM from the start, the second a step of (n / N) ** exponent."""
    X = clusters(200)
    keywords = {} if exponent is None else {"step_exponent": exponent}
    params = {"covariance_type": covariance_type, "random_state": 0}
    start = make(cls, 3, iterations=0, **params).fit(X[:80])
    expected = fitted_mixture(start)
    mixture = make(cls, 3, **params)
    steps = [1.0, (120 / 200) ** (exponent or 0.7)]
    for rows, step, seen in zip((X[:80], X[80:]), steps, (80, 200), strict=True):
        bound = log_densities(expected, rows).mean()
        expected = moved(covariance_type, expected, rows, np.ones(len(rows)), step, REGULARIZATION)
        assert mixture.partial_fit(rows, **keywords) is mixture
        assert_same_mixture(mixture, expected)
        assert mixture.lower_bound_ == pytest.approx(bound, rel=1e-10)
        assert mixture.lower_bounds_ == []
        assert mixture.n_samples_seen_ == seen
    assert mixture.n_iter_ == 2


@each_class
@each_type
def test_after_a_fit_it_goes_on(cls, covariance_type):
    X = clusters(200)
    mixture = make(cls, 3, covariance_type=covariance_type, random_state=0).fit(X)
    expected = moved(
        covariance_type, fitted_mixture(mixture), X[:50], np.ones(50), 0.2**0.7, REGULARIZATION
    )
    iterations = mixture.n_iter_
    mixture.partial_fit(X[:50])
    assert_same_mixture(mixture, expected)
    assert mixture.n_samples_seen_ == 250
    assert mixture.n_iter_ == iterations + 1
    # The labels were those of the parameters before.
    assert not hasattr(mixture, "labels_")
    assert mixture.converged_ is False


@each_class
@each_type
def test_all_rows_with_a_step_of_one_are_an_iteration_of_fit(cls, covariance_type):
    X = clusters(150)
    params = {"covariance_type": covariance_type, "random_state": 1, "start": "random"}
    expected = make(cls, 3, iterations=1, **params)
    with pytest.warns(ConvergenceWarning):
        expected.fit(X)
    mixture = make(cls, 3, **params).partial_fit(X, step_exponent=1.0)
    assert_same_mixture(mixture, fitted_mixture(expected), 1e-11)


@each_class
def test_weights(cls):
    """An integer is the row repeated, and a batch weighs what its rows weigh together."""
    X = clusters(100)
    counts = np.random.default_rng(0).integers(0, 4, size=100)
    first, second = slice(0, 40), slice(40, 100)
    start = {start_parameter(cls): lambda X, k, random_state: CENTRES[:k]}
    weighted, repeated = (cls(3, **start) for _ in range(2))
    for part in (first, second):
        weighted.partial_fit(X[part], sample_weight=counts[part])
        repeated.partial_fit(X[part].repeat(counts[part], axis=0))
        assert_same_mixture(weighted, fitted_mixture(repeated), 1e-10)
        assert weighted.lower_bound_ == pytest.approx(repeated.lower_bound_, rel=1e-10)
    assert weighted.n_samples_seen_ == repeated.n_samples_seen_ == counts.sum()

    heavier = cls(3, **start)
    for part in (first, second):
        heavier.partial_fit(X[part], sample_weight=7.0 * counts[part])
    assert_same_mixture(heavier, fitted_mixture(weighted), 1e-11)
    assert heavier.n_samples_seen_ == 7 * counts.sum()


def test_weights_of_the_fit_count():
    X = clusters(100)
    weights = np.full(100, 2.5)
    mixture = TorchMixture(3, random_state=0).fit(X, sample_weight=weights)
    expected = moved(
        "diag", fitted_mixture(mixture), X, np.ones(100), (250 / 500) ** 0.7, REGULARIZATION
    )
    mixture.partial_fit(X, sample_weight=torch.tensor(weights))
    assert_same_mixture(mixture, expected)
    assert mixture.n_samples_seen_ == 500


# -- starts and restarts --------------------------------------------------------------------------


@each_class
def test_given_parameters_are_a_start_and_nothing_more(cls):
    """They have seen no rows: the first batch moves them by a whole iteration."""
    X = clusters(100)
    covariances = np.stack([np.eye(2)] * 3)
    mixture = cls.from_parameters(np.full(3, 1 / 3), CENTRES, covariances)
    expected = moved("full", fitted_mixture(mixture), X, np.ones(100), 1.0, REGULARIZATION)
    mixture.partial_fit(X)
    assert_same_mixture(mixture, expected)
    assert mixture.n_samples_seen_ == 100


@each_class
def test_a_fit_afterwards_starts_anew(cls):
    X = clusters(100)
    expected = make(cls, 3, random_state=0).fit(X)
    mixture = make(cls, 3, random_state=0)
    mixture.partial_fit(X[:20] - 50.0).partial_fit(X[20:60])
    mixture.fit(X)
    assert_same_mixture(mixture, fitted_mixture(expected), 0)
    assert mixture.n_samples_seen_ == 100
    assert mixture.n_iter_ == expected.n_iter_
    np.testing.assert_array_equal(mixture.labels_, expected.labels_)
    # And once more the other way round: labels and counts are those of all that was seen.
    mixture.partial_fit(X[:10])
    assert mixture.n_samples_seen_ == 110


def test_a_warm_start_goes_on_from_it():
    X = clusters(100)
    mixture = DropIn(3, random_state=0, warm_start=True, max_iter=1, reg_covar=REGULARIZATION)
    mixture.partial_fit(X[:50])
    expected = moved("full", fitted_mixture(mixture), X, np.ones(100), 1.0, REGULARIZATION)
    with pytest.warns(ConvergenceWarning):
        mixture.fit(X)
    assert_same_mixture(mixture, expected)
    assert mixture.n_samples_seen_ == 100


def test_a_warm_start_changes_nothing_in_a_partial_fit():
    X = clusters(100)
    plain, warm = (DropIn(3, random_state=0, warm_start=choice) for choice in (False, True))
    for batch in batches(X, 50):
        plain.partial_fit(batch)
        warm.partial_fit(batch)
    assert_same_mixture(warm, fitted_mixture(plain), 0)


@each_class
def test_several_starts_are_one(cls):
    """The batches that would tell which is the best are still to come."""
    calls = []

    def function(X, num_components, random_state):
        calls.append(random_state.uniform())
        return X[:num_components]

    X = clusters(100)
    one, many = (make(cls, 3, start=function, starts=n, random_state=0) for n in (1, 4))
    assert_same_mixture(many.partial_fit(X), fitted_mixture(one.partial_fit(X)), 0)
    assert len(calls) == 2


@each_class
def test_a_start_of_labels_is_one_of_the_first_batch(cls):
    """Rows without weight have labels too."""
    X = clusters(60)
    labels = np.arange(60) % 3
    counts = np.random.default_rng(0).integers(0, 3, size=60)
    weighted, repeated = (make(cls, 3) for _ in range(2))
    weighted.set_params(**{start_parameter(cls): labels})
    weighted.partial_fit(X, sample_weight=counts)
    repeated.set_params(**{start_parameter(cls): labels.repeat(counts)})
    repeated.partial_fit(X.repeat(counts, axis=0))
    assert_same_mixture(weighted, fitted_mixture(repeated), 1e-10)
    # Later batches have other lengths.
    weighted.partial_fit(X[:7])


def test_a_batch_that_failed_leaves_the_estimator_as_it_was():
    X = clusters(100)
    mixture = TorchMixture(3, covariance_type="full", covariance_regularization=0.0, random_state=0)
    with pytest.raises(IllDefinedCovarianceError):
        mixture.partial_fit(X[:3])
    mixture.partial_fit(X)
    before = copy.deepcopy(mixture)
    with pytest.raises(ValueError, match="NaN"):
        mixture.partial_fit([[0.0, np.nan]])
    with pytest.raises(ValueError, match=r"log-likelihood of the batch is .*scale the data"):
        mixture.partial_fit([[1e200, 0.0]])
    assert_same_mixture(mixture, fitted_mixture(before), 0)
    assert mixture.n_samples_seen_ == before.n_samples_seen_


def test_a_component_without_rows_is_warned_of():
    X = clusters(60)
    mixture = TorchMixture(4, init_strategy=np.arange(60) % 3)
    with pytest.warns(EmptyComponentWarning, match=r"Components \[3\] lost all their samples"):
        mixture.partial_fit(X)
    assert np.isfinite(mixture.score(X))


# -- kinds of rows --------------------------------------------------------------------------------


@each_class
@pytest.mark.parametrize(
    "convert", [np.ndarray.tolist, pd.DataFrame, torch.tensor, np.asfortranarray]
)
def test_kinds_of_rows(cls, convert):
    X = clusters(100)
    expected, mixture = (make(cls, 3, random_state=0) for _ in range(2))
    for batch in batches(X, 50):
        expected.partial_fit(batch)
        mixture.partial_fit(convert(batch))
    assert_same_mixture(mixture, fitted_mixture(expected), 1e-12)


def test_a_large_part_of_a_mapped_file_is_one_batch(tmp_path, monkeypatch):
    from sklearn_torch_gmm.rows import source as data

    monkeypatch.setattr(data, "BATCH_BYTES", 160)
    X = clusters(100)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    mixture = TorchMixture(3, random_state=0).partial_fit(mapped[:80])
    expected = TorchMixture(3, random_state=0).partial_fit(X[:80])
    assert_same_mixture(mixture, fitted_mixture(expected), 1e-12)


@each_type
def test_float32_stays_float32_and_close(covariance_type):
    X = clusters(1000).astype(np.float32)
    single, double = (
        TorchMixture(3, covariance_type=covariance_type, random_state=0) for _ in range(2)
    )
    for batch in batches(X, 50):
        single.partial_fit(batch)
        double.partial_fit(batch.astype(np.float64))
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        assert getattr(single, name).dtype == np.float32
        # Rounded after each of the twenty batches, to 6e-8 of a number below ten.
        np.testing.assert_allclose(getattr(single, name), getattr(double, name), atol=1e-5)


def test_feature_names():
    frame = pd.DataFrame(clusters(60), columns=["a", "b"])
    mixture = TorchMixture(3, random_state=0).partial_fit(frame[:30])
    assert mixture.feature_names_in_.tolist() == ["a", "b"]
    mixture.partial_fit(frame[30:])
    with pytest.raises(ValueError, match="feature names should match"):
        mixture.partial_fit(frame[["b", "a"]])


def test_another_number_of_features():
    mixture = TorchMixture(3, random_state=0).partial_fit(clusters(60))
    with pytest.raises(ValueError, match="X has 1 features, but GaussianMixture is expecting 2"):
        mixture.partial_fit(np.zeros((3, 1)))


def test_a_copy_goes_on_where_the_original_was():
    X = clusters(100)
    mixture = TorchMixture(3, random_state=0).partial_fit(X[:50])
    copied = pickle.loads(pickle.dumps(mixture))
    assert_same_mixture(copied.partial_fit(X[50:]), fitted_mixture(mixture.partial_fit(X[50:])), 0)
    assert copied.n_samples_seen_ == 100


def test_one_row_at_a_time():
    X = clusters(300)
    mixture = TorchMixture(3, covariance_type="full", random_state=0).partial_fit(X[:60])
    for row in X[60:]:
        mixture.partial_fit(row[None])
    assert mixture.n_samples_seen_ == 300
    order = np.lexsort(mixture.means_.round().T)
    np.testing.assert_allclose(mixture.means_[order], CENTRES, atol=0.5)


# -- what it does not take ------------------------------------------------------------------------


@each_class
@pytest.mark.parametrize("exponent", [0.5, 0.0, -1.0, 1.0001, np.nan, np.inf])
def test_exponents_have_bounds(cls, exponent):
    with pytest.raises(ValueError, match=r"step_exponent must be in \(0.5, 1\], got"):
        make(cls).partial_fit(clusters(10), step_exponent=exponent)


@each_class
def test_the_documented_exponent_is_the_default(cls):
    assert inspect.signature(cls.partial_fit).parameters["step_exponent"].default == 0.7
    assert "step_exponent : float in (0.5, 1], default=0.7" in inspect.getdoc(cls.partial_fit)


@each_class
def test_the_first_batch_has_a_row_for_each_component(cls):
    name = cls._vocabulary.components
    with pytest.raises(ValueError, match=f" {name} = 3, n_samples = 2"):
        make(cls, 3).partial_fit(clusters(2))
    with pytest.raises(ValueError, match=f" {name} = 3, n_samples = 2"):
        make(cls, 3).partial_fit(clusters(4), sample_weight=[0, 1, 0, 1])


@each_class
def test_parameters_are_checked(cls):
    with pytest.raises(ValueError, match="components' parameter"):
        make(cls, 0).partial_fit(clusters(10))


@each_class
@pytest.mark.parametrize("wrap", [lambda d: d, DataLoader], ids=["dataset", "loader"])
def test_datasets_are_for_fit(cls, wrap):
    rows = wrap(TensorDataset(torch.tensor(clusters(10))))
    with pytest.raises(TypeError, match=r"partial_fit takes one batch, .* got a"):
        make(cls).partial_fit(rows)


@each_class
@pytest.mark.parametrize(
    "changes", [{"n_clusters": 2}, {"covariance_type": "tied"}], ids=["number", "type"]
)
def test_parameters_that_were_changed_after_the_fit(cls, changes):
    X = clusters(60)
    mixture = make(cls, 3, covariance_type="full", random_state=0).fit(X)
    mixture.set_params(**changes)
    with pytest.raises(ValueError, match="Set them back, or call fit to start again"):
        mixture.partial_fit(X)
    mixture.fit(X)
    mixture.partial_fit(X)


def test_a_warm_start_is_not_compared_with_the_last_batch():
    X = np.random.default_rng(0).normal(size=(200, 2))
    mixture = DropIn(2, random_state=0, warm_start=True, tol=1e9).partial_fit(X).fit(X)
    # One iteration has nothing to be compared with, the second is within any tolerance.
    assert mixture.n_iter_ == 2
    assert mixture.fit(X).n_iter_ == 1


@each_type
@pytest.mark.parametrize(("offset", "width"), [(1e3, 1e-5), (1e4, 1e-4), (1e6, 1e-2)])
def test_an_update_of_given_parameters_is_an_iteration(covariance_type, offset, width):
    """However far, in widths of the data, the means are moved by it."""
    X = offset + width * np.random.default_rng(0).standard_normal((1000, 2))
    unit = np.eye(2)[None] if covariance_type == "full" else np.eye(2)
    covariances = {"diag": np.ones((1, 2)), "spherical": np.ones(1)}.get(covariance_type, unit)
    options = {"covariance_type": covariance_type, "reg_covar": 0.0}
    mixture = DropIn.from_parameters([1.0], np.zeros((1, 2)), covariances, **options)
    mixture.partial_fit(X)
    expected = np.cov(X.T, bias=True)
    found = fitted_mixture(mixture)
    wanted = {
        "diag": np.diag(np.diag(expected)),
        "spherical": np.diag(expected).mean() * np.eye(2),
    }.get(covariance_type, expected)
    # The rows are rounded to eps of the offset; NumPy's sum, too.
    np.testing.assert_allclose(found.matrices[0], wanted, rtol=1e-6, atol=1e-6 * width**2)


def test_an_update_of_a_mixture_set_by_hand():
    X = clusters(300)
    mixture = DropIn(3)
    fitted = DropIn(3, random_state=0).fit(X)
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        setattr(mixture, name, getattr(fitted, name))
    assert mixture.partial_fit(X).n_iter_ == 1


@pytest.mark.parametrize("types", [("tied", "diag"), ("diag", "tied")])
@pytest.mark.parametrize("cls", MIXTURE_CLASSES)
def test_as_many_components_as_features_do_not_hide_another_type(rng, cls, types):
    X = rng.normal(size=(60, 2)) + 5.0 * rng.integers(2, size=(60, 1))
    mixture = make(cls, 2, covariance_type=types[0], random_state=0).fit(X)
    mixture.partial_fit(X).set_params(covariance_type=types[1])
    with pytest.raises(ValueError, match=f"not estimated with covariance_type='{types[1]}'"):
        mixture.partial_fit(X)
    if cls is DropIn:
        with pytest.raises(ValueError, match=f"not estimated with covariance_type='{types[1]}'"):
            mixture.set_params(warm_start=True).fit(X)
    # A single one is the same for both.
    make(cls, 1, covariance_type=types[0]).fit(X[:, :1]).set_params(
        covariance_type=types[1]
    ).partial_fit(X[:, :1])


@each_class
@each_type
@pytest.mark.parametrize(("before", "after"), [(1e-6, 1.0), (1.0, 1e-6), (0.5, 0.5)])
def test_the_regularization_may_change_between_batches(cls, covariance_type, before, after):
    X = 0.1 * np.random.default_rng(0).normal(size=(1000, 2))
    params = {"covariance_type": covariance_type, "random_state": 0}
    mixtures = [make(cls, 1, regularization=before, **params) for _ in range(2)]
    for mixture in mixtures:
        mixture.fit(X).partial_fit(X[:100])
        np.testing.assert_array_equal(mixture.regularization_, [before])
    name = "reg_covar" if cls is DropIn else "covariance_regularization"
    found, expected = (
        mixture.set_params(**{name: amount}).partial_fit(X[100:200])
        for mixture, amount in zip(mixtures, (after, before), strict=True)
    )
    changes = fitted_mixture(found).matrices - fitted_mixture(expected).matrices
    np.testing.assert_allclose(changes[0], (after - before) * np.eye(2), atol=1e-12)


def test_given_covariances_include_no_regularization():
    mixture = DropIn.from_parameters([1.0], [[0.0]], [[[4.0]]], reg_covar=1.0)
    mixture.n_samples_seen_ = 1.0
    mixture.partial_fit([[0.0]], step_exponent=1.0)
    # Half of the old moments, half of the sample's, which is at the mean.
    np.testing.assert_allclose(mixture.covariances_, [[[0.5 * 4.0 + 1.0]]])


@each_class
@each_type
def test_fixed_covariances_include_the_regularization_of_their_own_estimation(cls, covariance_type):
    """None if they were given, else that of the last fit that estimated them."""
    X = np.random.default_rng(0).normal(size=(400, 2))
    given = 1e-3 * np.eye(2)
    covariances = {"full": [given], "tied": given, "diag": [[1e-3] * 2], "spherical": [1e-3]}
    params = {"covariance_type": covariance_type, "fixed": ("covariances",)}
    mixture = cls.from_parameters([1.0], X.mean(0)[None], covariances[covariance_type], **params)
    name = "reg_covar" if cls is DropIn else "covariance_regularization"
    mixture.set_params(**{name: 1.0}).partial_fit(X[:100])
    assert mixture.regularization_.tolist() == [0.0]
    mixture.set_params(fixed=()).partial_fit(X[100:200])
    assert mixture.regularization_.tolist() == [1.0]
    before = mixture.covariances_
    mixture.set_params(fixed=("covariances",), **{name: 2.0}).partial_fit(X[200:300])
    assert mixture.regularization_.tolist() == [1.0]
    np.testing.assert_array_equal(mixture.covariances_, before)
    # Variances of the samples below one, plus two.
    mixture.set_params(fixed=()).partial_fit(X[300:])
    assert mixture.regularization_.tolist() == [2.0]
    assert (fitted_mixture(mixture).matrices[0].diagonal() > 2.0).all()
    assert (fitted_mixture(mixture).matrices[0].diagonal() < 3.5).all()


def test_each_component_includes_a_regularization_of_its_own():
    X = np.random.default_rng(0).normal(size=(400, 1)) + np.repeat([[0.0], [10.0]], 200, axis=0)
    params = {"covariance_type": "spherical", "reg_covar": 1.0}
    mixture = DropIn(
        2, **params, precisions_init=[1e3, 1.0], means_init=[[0.0], [10.0]], random_state=0
    )
    mixture.set_params(fixed={"covariances": [0]}).fit(X)
    np.testing.assert_array_equal(mixture.regularization_, [0.0, 1.0])
    mixture.set_params(fixed=())
    mixture.partial_fit(X[::50])
    np.testing.assert_array_equal(mixture.regularization_, [1.0, 1.0])


def test_a_mixture_of_scikit_learn_includes_its_regularization():
    X = 0.1 * np.random.default_rng(0).normal(size=(200, 1))
    theirs = sklearn.mixture.GaussianMixture(reg_covar=1.0).fit(X)
    mixture = DropIn.from_sklearn(theirs).set_params(reg_covar=1e-6)
    mixture.n_samples_seen_ = 200.0
    mixture.partial_fit(X, step_exponent=1.0)
    np.testing.assert_allclose(mixture.covariances_[0], np.cov(X.T, ddof=0) + 1e-6, rtol=1e-9)


@pytest.mark.parametrize("wrong", [1.0, None, [-1.0, 0.0], [np.nan, 0.0], [[1.0, 2.0]]])
def test_a_wrong_regularization_is_not_loaded(wrong, tmp_path):
    mixture = DropIn.from_parameters(
        [0.5, 0.5], [[0.0], [1.0]], [1.0, 1.0], covariance_type="spherical"
    )
    mixture.regularization_ = np.array(wrong) if isinstance(wrong, list) else wrong
    with pytest.raises(ValueError, match="regularization_"):
        mixture.save(tmp_path)


@each_type
def test_a_warm_start_keeps_one_regularization_for_each_component(covariance_type, tmp_path):
    X = clusters(300)
    mixture = DropIn(3, covariance_type=covariance_type, random_state=0, warm_start=True).fit(X)
    mixture.set_params(n_components=2).fit(X)
    assert mixture.means_.shape == (3, 2)
    assert mixture.regularization_.shape == (3,)
    mixture.save(tmp_path)
    mixture.set_params(n_components=3).partial_fit(X)


@each_type
def test_components_may_be_removed_by_hand(covariance_type, tmp_path):
    X = clusters(300)
    mixture = DropIn(3, covariance_type=covariance_type, random_state=0, reg_covar=0.5).fit(X)
    mixture.n_components, mixture.weights_ = 2, np.array([0.5, 0.5])
    for name in ("means_", "covariances_", "precisions_cholesky_"):
        if name == "means_" or covariance_type != "tied":
            setattr(mixture, name, getattr(mixture, name)[:2])
    mixture.save(tmp_path)
    expected = copy.deepcopy(mixture)
    expected.regularization_ = np.array([0.5, 0.5])
    mixture.partial_fit(X)
    np.testing.assert_array_equal(mixture.covariances_, expected.partial_fit(X).covariances_)
    mixture.regularization_ = np.array([0.5, 0.25, 0.5])
    with pytest.raises(ValueError, match=r"regularization_ has 3 values, but .* 2 components"):
        mixture.partial_fit(X)
    mixture.regularization_ = 0.5
    mixture.partial_fit(X)


@pytest.mark.parametrize("seen", [-10, np.nan, np.inf, None, "a", True])
def test_a_weight_that_no_samples_have_is_refused(seen):
    X = np.random.default_rng(0).normal(size=(40, 2))
    mixture = DropIn(2, random_state=0).fit(X)
    mixture.n_samples_seen_ = seen
    with pytest.raises(ValueError, match="n_samples_seen_ must be a number from 0 on, got"):
        mixture.partial_fit(X)
