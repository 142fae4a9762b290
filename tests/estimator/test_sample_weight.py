"""Weights of rows, by what they mean: zero is the row removed, an integer is the row repeated."""

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn import config_context
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_sample_weight_equivalence_on_dense_data
from torch.utils.data import DataLoader, TensorDataset

from sklearn_torch_gmm.rows.sample_weight import relative_weights
from tests.estimators import MIXTURE_CLASSES, TYPES, DropIn, TorchMixture, make

MEANS = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
NAMED_STARTS = [
    *((TorchMixture, start) for start in ("kmeans", "kmeans++", "random")),
    *((DropIn, start) for start in ("kmeans", "k-means++", "random", "random_from_data")),
]

each_class = pytest.mark.parametrize("cls", MIXTURE_CLASSES, ids=["documented", "drop-in"])
each_type = pytest.mark.parametrize("covariance_type", TYPES)


@pytest.fixture
def X():
    """Three clusters that overlap: EM has something to do."""
    rng = np.random.default_rng(0)
    return MEANS[rng.integers(3, size=90)] + rng.standard_normal((90, 2))


@pytest.fixture
def counts():
    """Weights that are numbers of repetitions, zero among them."""
    return np.random.default_rng(1).integers(0, 4, size=90)


def at_given_means(X, num_components, random_state):
    return MEANS[:num_components]


def at_scaled_means(X, num_components, random_state):
    return ((MEANS - MEANS.mean(0)) / 2.0)[:num_components]


def fixed_start(cls, covariance_type):
    """A start that does not depend on how often a row is there."""
    if cls is TorchMixture:
        return {"init_means": MEANS}
    identity = {
        "full": np.stack([np.eye(2)] * 3),
        "tied": np.eye(2),
        "diag": np.ones((3, 2)),
        "spherical": np.ones(3),
    }[covariance_type]
    return {
        "weights_init": np.full(3, 1 / 3),
        "means_init": MEANS,
        "precisions_init": identity,
    }


def assert_same_fit(actual, expected, rtol=1e-10):
    """Parameters of order one."""
    assert actual.n_iter_ == expected.n_iter_
    assert actual.converged_ == expected.converged_
    np.testing.assert_allclose(actual.lower_bounds_, expected.lower_bounds_, rtol=rtol)
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        np.testing.assert_allclose(
            getattr(actual, name), getattr(expected, name), rtol=rtol, atol=rtol, err_msg=name
        )


# -- what a weight means --------------------------------------------------------------------------


@each_class
@each_type
@pytest.mark.parametrize("given", [False, True], ids=["callable", "parameters"])
def test_an_integer_is_the_row_repeated_and_zero_the_row_removed(
    X, counts, cls, covariance_type, given
):
    start = fixed_start(cls, covariance_type) if given else {"start": at_given_means}
    mixture = make(cls, 3, covariance_type=covariance_type, tolerance=1e-4, **start)
    repeated = mixture.fit(X.repeat(counts, axis=0))
    expected = {name: getattr(repeated, name)(X.repeat(counts, axis=0)) for name in CRITERIA}
    weighted = mixture.clone().fit(X, sample_weight=counts)
    assert weighted.n_iter_ > 3, "nothing was left to do"
    assert_same_fit(weighted, repeated)
    assert weighted.n_samples_seen_ == repeated.n_samples_seen_ == counts.sum()
    np.testing.assert_array_equal(weighted.labels_, repeated.predict(X))
    for name, value in expected.items():
        assert getattr(weighted, name)(X, sample_weight=counts) == pytest.approx(value, rel=1e-10)


CRITERIA = ("score", "bic", "aic")


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
@pytest.mark.parametrize(("cls", "start"), NAMED_STARTS)
def test_zero_is_the_row_removed_for_random_starts_too(X, counts, cls, start, covariance_type):
    """The rows that are left have different weights, or the same: then it is as if none had one."""
    mixture = make(cls, 3, covariance_type=covariance_type, start=start, random_state=0)
    kept = counts > 0
    for weights in (counts, kept.astype(float)):
        without = mixture.clone().fit(X[kept], sample_weight=weights[kept])
        assert_same_fit(mixture.fit(X, sample_weight=weights), without)
        assert mixture.labels_.shape == (90,)
    assert_same_fit(mixture, mixture.clone().fit(X[kept]), rtol=0)


@each_class
@each_type
@pytest.mark.parametrize("as_shares", [False, True])
def test_zero_is_the_row_removed_with_its_own_part_of_the_start(X, cls, covariance_type, as_shares):
    """However far away: the square of the row overflows."""
    labels = KMeans(3, random_state=0).fit_predict(X)
    start, value = (np.eye(3)[labels], [0.2, 0.3, 0.5]) if as_shares else (labels, 2)
    expected = make(cls, 3, covariance_type=covariance_type, start=start).fit(X)
    far, weights = np.insert(X, 40, 1e200, axis=0), np.insert(np.ones(90), 40, 0.0)
    start = np.insert(start, 40, value, axis=0)
    mixture = make(cls, 3, covariance_type=covariance_type, start=start)
    for data in (far, TensorDataset(torch.from_numpy(far))):
        assert_same_fit(mixture.fit(data, sample_weight=weights), expected, rtol=0)
    updated = mixture.clone().partial_fit(far, sample_weight=weights)
    alone = expected.clone().partial_fit(X)
    np.testing.assert_array_equal(updated.means_, alone.means_)


@each_class
def test_a_start_has_values_for_samples_of_weight_zero_too(X, counts, cls):
    mixture = make(cls, 3, start=np.arange(90)[counts > 0] % 3)
    with pytest.raises(ValueError, match=r"values for \d\d samples, but the data have 90 samples"):
        mixture.fit(X, sample_weight=counts)


@pytest.mark.parametrize(("cls", "start"), NAMED_STARTS)
@pytest.mark.parametrize("factor", [1e-300, 1 / 3, 7e9])
def test_only_the_ratios_of_weights_matter(X, counts, cls, start, factor):
    mixture = make(cls, 3, start=start, random_state=0, starts=2)
    expected = mixture.clone().fit(X, sample_weight=counts)
    weights = factor * counts
    mixture.fit(X, sample_weight=weights)
    assert_same_fit(mixture, expected, rtol=1e-11)
    assert mixture.n_samples_seen_ == pytest.approx(factor * counts.sum(), rel=1e-14)
    score = expected.score(X, sample_weight=counts)
    assert mixture.score(X, sample_weight=weights) == pytest.approx(score, rel=1e-12)


@each_class
@pytest.mark.parametrize("weight", [1.0, 0.1, 5.0])
def test_equal_weights_are_as_good_as_none(X, cls, weight):
    mixture = make(cls, 3, start="random", random_state=0)
    expected = mixture.clone().fit(X)
    assert_same_fit(mixture.fit(X, sample_weight=np.full(90, weight)), expected, rtol=0)


@each_class
@each_type
def test_one_component_has_the_weighted_mean_and_covariance(X, counts, cls, covariance_type):
    mixture = make(cls, covariance_type=covariance_type, regularization=0.5)
    mixture.fit(X, sample_weight=counts)
    matrix = np.cov(X.T, bias=True, aweights=counts) + 0.5 * np.eye(2)
    expected = {
        "full": matrix[None],
        "tied": matrix,
        "diag": np.diag(matrix)[None],
        "spherical": np.diag(matrix).mean(keepdims=True),
    }[covariance_type]
    np.testing.assert_allclose(mixture.means_, [np.average(X, axis=0, weights=counts)], rtol=1e-12)
    np.testing.assert_allclose(mixture.covariances_, expected, rtol=1e-12)


@each_class
@each_type
@pytest.mark.parametrize("batch_size", [7, 64])
def test_batches_change_nothing(X, counts, cls, covariance_type, batch_size):
    mixture = make(cls, 3, covariance_type=covariance_type, start=at_given_means)
    expected = mixture.clone().fit(X, sample_weight=counts)
    mixture.set_params(batch_size=batch_size).fit(X, sample_weight=counts)
    assert_same_fit(mixture, expected)


# -- weights and the start ------------------------------------------------------------------------


@each_class
def test_weights_decide_what_k_means_starts_from(cls):
    """The heavy rows at 0 and 4 are told apart, although 4 and 10 are farther from each other."""
    X = np.array([[0.0], [4.0], [10.0]])
    mixture = make(cls, 2, iterations=0, random_state=0, covariance_type="spherical")
    without = mixture.fit(X)
    np.testing.assert_allclose(np.sort(without.means_.ravel()), [2.0, 10.0])
    mixture.fit(X, sample_weight=[100.0, 100.0, 1.0])
    np.testing.assert_allclose(np.sort(mixture.means_.ravel()), [0.0, 410.0 / 101.0])
    np.testing.assert_allclose(np.sort(mixture.weights_), [100.0 / 201.0, 101.0 / 201.0])


@each_class
def test_the_start_is_that_of_scikit_learn_s_weighted_k_means(X, counts, cls):
    kept = counts > 0
    k_means = KMeans(3, n_init=1, random_state=0).fit(X[kept], sample_weight=counts[kept])
    mixture = make(cls, 3, iterations=0, random_state=0).fit(X, sample_weight=counts)
    np.testing.assert_allclose(mixture.means_, k_means.cluster_centers_, rtol=1e-10)


@pytest.mark.parametrize(
    ("cls", "start"),
    [(TorchMixture, "kmeans++"), (DropIn, "k-means++"), (DropIn, "random_from_data")],
)
@pytest.mark.parametrize("seed", range(5))
def test_heavy_rows_are_drawn(X, cls, start, seed):
    weights = np.full(90, 1e-12)
    weights[[5, 50]] = 1.0
    mixture = make(cls, 2, start=start, iterations=0, random_state=seed, regularization=0.1)
    mixture.fit(X, sample_weight=weights)
    order = np.argsort(X[[5, 50], 0])
    expected = X[[5, 50]][order]
    np.testing.assert_allclose(mixture.means_[np.argsort(mixture.means_[:, 0])], expected)


@pytest.mark.parametrize(("cls", "start"), [(TorchMixture, "random"), (DropIn, "random")])
def test_random_shares_are_weighed(X, counts, cls, start):
    mixture = make(cls, 3, start=start, iterations=0, random_state=0)
    mixture.fit(X, sample_weight=counts)
    # The mean of a mixture that an M-step gave is that of the data.
    np.testing.assert_allclose(
        mixture.weights_ @ mixture.means_, np.average(X, axis=0, weights=counts), rtol=1e-12
    )


def test_a_warm_start_goes_on_with_weights(X, counts):
    params = {"tol": 0.0, **fixed_start(DropIn, "full")}
    expected = DropIn(3, max_iter=6, **params)
    mixture = DropIn(3, max_iter=3, warm_start=True, **params)
    with pytest.warns(ConvergenceWarning):
        expected.fit(X, sample_weight=counts)
    for _ in range(2):
        with pytest.warns(ConvergenceWarning):
            mixture.fit(X, sample_weight=counts)
    np.testing.assert_allclose(mixture.means_, expected.means_, rtol=1e-10)


# -- kinds of weights and of rows -----------------------------------------------------------------


@each_class
@pytest.mark.parametrize(
    "convert",
    [
        np.ndarray.tolist,
        lambda w: w.astype(np.float32),
        lambda w: pd.Series(w, index=np.arange(len(w))[::-1]),
        torch.tensor,
        lambda w: torch.tensor(w, dtype=torch.float32, requires_grad=True),
        lambda w: torch.tensor(w).bfloat16(),
        lambda w: np.repeat(w, 2)[::2],
        lambda w: np.ascontiguousarray(w[::-1])[::-1],
    ],
    ids=[
        "list", "float32", "series", "tensor", "tensor with gradient", "bfloat16", "strided",
        "reversed",
    ],
)  # fmt: skip
def test_kinds_of_weights(X, counts, cls, convert):
    mixture = make(cls, 3, random_state=0)
    expected = mixture.clone().fit(X, sample_weight=counts)
    weights = convert(counts)
    assert_same_fit(mixture.fit(X, sample_weight=weights), expected, rtol=0)
    assert mixture.n_samples_seen_ == counts.sum()
    for name in CRITERIA:
        value = getattr(mixture, name)(X, sample_weight=weights)
        assert value == getattr(expected, name)(X, sample_weight=counts)
        assert type(value) is float


@each_class
@pytest.mark.parametrize(
    "convert",
    [torch.tensor, pd.DataFrame, lambda X: TensorDataset(torch.tensor(X))],
    ids=["tensor", "frame", "dataset"],
)
@pytest.mark.parametrize("batch_size", [None, 16])
def test_kinds_of_rows(X, counts, cls, convert, batch_size):
    rows = convert(X)
    mixture = make(cls, 3, random_state=0, batch_size=batch_size)
    expected = mixture.clone().fit(X, sample_weight=counts)
    labels = mixture.fit_predict(rows, sample_weight=counts)
    assert_same_fit(mixture, expected)
    assert mixture.n_samples_seen_ == counts.sum()
    np.testing.assert_array_equal(labels, expected.labels_)
    for name in CRITERIA:
        value = getattr(mixture, name)(rows, sample_weight=counts)
        assert value == pytest.approx(getattr(expected, name)(X, sample_weight=counts), rel=1e-10)


# -- criteria by hand -----------------------------------------------------------------------------


@each_class
@each_type
def test_criteria_by_hand(X, cls, covariance_type):
    weights = np.random.default_rng(2).uniform(size=90)
    mixture = make(cls, 3, covariance_type=covariance_type, random_state=0).fit(X)
    log_densities = mixture.score_samples(X)
    free = {"full": 9, "tied": 3, "diag": 6, "spherical": 3}[covariance_type] + 6 + 2
    total = np.sum(weights * log_densities)
    expected = {
        "score": total / weights.sum(),
        "bic": -2 * total + free * np.log(weights.sum()),
        "aic": -2 * total + 2 * free,
    }
    for name, value in expected.items():
        assert getattr(mixture, name)(X, sample_weight=weights) == pytest.approx(value, rel=1e-12)


def test_a_row_without_weight_counts_for_nothing_however_far_it_is(X):
    mixture = TorchMixture(3, random_state=0).fit(X)
    rows = np.vstack([X, [[1e200, 0.0]]])
    assert mixture.score_samples(rows)[-1] == -np.inf
    weights = np.append(np.ones(90), 0.0)
    assert mixture.score(rows, sample_weight=weights) == pytest.approx(mixture.score(X), rel=1e-12)


# -- scikit-learn's tools -------------------------------------------------------------------------


def first_rows_of_the_check():
    """Means [3, 30] that have rows near them."""
    return np.random.RandomState(42).rand(15, 30)[:3]


@each_class
@each_type
def test_scikit_learn_s_check_with_fixed_means(cls, covariance_type):
    """With K = 1 it is one of all checks, which both classes are put to elsewhere."""
    means = first_rows_of_the_check()
    start = {"init_means": means} if cls is TorchMixture else {"start": lambda X, k, rng: means}
    mixture = make(cls, 3, covariance_type=covariance_type, **start)
    check_sample_weight_equivalence_on_dense_data(type(mixture).__name__, mixture)


@each_type
def test_scikit_learn_s_check_with_all_parameters_given(covariance_type):
    precisions = {
        "full": np.stack([np.eye(30)] * 3),
        "tied": np.eye(30),
        "diag": np.ones((3, 30)),
        "spherical": np.ones(3),
    }[covariance_type]
    mixture = DropIn(
        3,
        covariance_type=covariance_type,
        weights_init=[0.2, 0.3, 0.5],
        means_init=first_rows_of_the_check(),
        precisions_init=precisions,
    )
    check_sample_weight_equivalence_on_dense_data("GaussianMixture", mixture)


@pytest.mark.skipif(
    sklearn.__version__.startswith("1.7."),
    reason="scikit-learn 1.7 routes no weights to the score of a pipeline, of no estimator",
)
@each_class
def test_weights_are_routed_through_a_grid_search(X, counts, cls):
    weights = counts + 0.5
    components = "num_components" if cls is TorchMixture else "n_components"
    with config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=True)
        mixture = make(cls, 1, start=at_scaled_means)
        mixture.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search = GridSearchCV(
            make_pipeline(scaler, mixture),
            {f"gaussianmixture__{components}": [1, 2, 3]},
            cv=KFold(3),
        )
        search.fit(X, sample_weight=weights)
    for position, value in enumerate([1, 2, 3]):
        scores = []
        for train, test in KFold(3).split(X):
            scaler = StandardScaler().fit(X[train], sample_weight=weights[train])
            fitted = make(cls, value, start=at_scaled_means).fit(
                scaler.transform(X[train]), sample_weight=weights[train]
            )
            scores.append(fitted.score(scaler.transform(X[test]), sample_weight=weights[test]))
        expected = search.cv_results_["mean_test_score"][position]
        assert expected == pytest.approx(np.mean(scores), rel=1e-10)


@each_class
def test_weights_that_nobody_asked_for_are_refused(X, counts, cls):
    with config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(StandardScaler(), make(cls))
        with pytest.raises(ValueError, match="sample_weight"):
            pipeline.fit(X, sample_weight=counts)


# -- weights that are none ------------------------------------------------------------------------


@each_class
@pytest.mark.parametrize(
    ("method", "kind"),
    [
        (method, kind)
        for method in ("fit", "fit_predict", "partial_fit", *CRITERIA)
        for kind in ("array", "tensor", "dataset")
        if (method, kind) != ("partial_fit", "dataset")
    ],
)
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0] * 89 + [-0.5], "Negative values in data passed to `sample_weight`, such as -0.5"),
        ([1.0] * 89 + [np.nan], "Input sample_weight contains NaN"),
        ([1.0] * 89 + [np.inf], "Input sample_weight contains infinity"),
        ([0.0] * 90, "sample_weight is zero for all samples: at least one must be positive"),
        ([1.0] * 89, r"sample_weight.shape == \(89,\), expected \(90,\)"),
        ([[1.0]] * 90, r"sample_weight.shape == \(90, 1\), expected \(90,\)"),
        (2.0, r"sample_weight.shape == \(\), expected \(90,\)"),
        ([1e308] * 90, "The sum of sample_weight overflows: scale"),
        (["heavy"] * 90, "could not convert string to float"),
    ],
    ids=["negative", "NaN", "infinite", "zero", "short", "2-D", "scalar", "huge", "text"],
)
def test_bad_weights(X, cls, method, kind, weights, message):
    rows = {"array": X, "tensor": torch.tensor(X), "dataset": TensorDataset(torch.tensor(X))}[kind]
    mixture = make(cls)
    if method in CRITERIA:
        mixture = cls.from_parameters([1.0], MEANS[:1], [1.0], covariance_type="spherical")
    with pytest.raises(ValueError, match=message):
        getattr(mixture, method)(rows, sample_weight=weights)


@each_class
def test_rows_without_weight_are_no_rows_for_components(X, cls):
    weights = np.zeros(90)
    weights[:2] = 1.0
    with pytest.raises(ValueError, match="components = 3, n_samples = 2"):
        make(cls, 3).fit(X, sample_weight=weights)


def test_weights_of_all_sizes_underflow_without_an_error():
    with np.errstate(all="raise"):
        weights = relative_weights(np.array([1e-320, 1.0, 1e300]))
    np.testing.assert_allclose(weights, [0.0, 3e-300, 3.0])


@pytest.mark.parametrize("scale", [1.0, 1e306, 1e-306])
def test_scores_depend_on_ratios_of_weights_only(scale):
    X = 100.0 * np.random.default_rng(0).normal(size=(40, 2))
    mixture = DropIn(2, random_state=0).fit(X)
    weights = np.repeat([1.0, 2.0, 0.0, 1.0], 10)
    expected = np.average(mixture.score_samples(X), weights=weights)
    assert mixture.score(X, sample_weight=scale * weights) == pytest.approx(expected, rel=1e-12)
    pairs = TensorDataset(torch.tensor(X), torch.tensor(scale * weights))
    loader = DataLoader(pairs, batch_size=7)
    assert mixture.score(loader, sample_weight=True) == pytest.approx(expected, rel=1e-12)


def test_an_impossible_sample_makes_every_score_infinite():
    """However small its weight is; only a weight of zero takes it out."""
    mixture = DropIn.from_parameters([1.0], [[0.0]], [1.0], covariance_type="spherical")
    X = np.array([[0.0], [1e200]])
    for weight in (1.0, 1e-300, 5e-324):
        assert mixture.score(X, sample_weight=np.array([1e300, weight])) == -np.inf
    assert np.isfinite(mixture.score(X, sample_weight=np.array([1.0, 0.0])))
