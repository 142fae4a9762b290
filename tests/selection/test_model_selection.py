"""Choosing the number of components, against a loop of single fits and densities of scipy's."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import log_softmax, logsumexp
from scipy.stats import multivariate_normal
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch.utils.data import DataLoader, TensorDataset

from sklearn_torch_gmm import GaussianMixtureIC
from sklearn_torch_gmm._estimator.fitted_state import set_parameters
from sklearn_torch_gmm._selection import results as selection
from sklearn_torch_gmm.mixture import GaussianMixture
from sklearn_torch_gmm.rows.in_memory import ArrayRows
from sklearn_torch_gmm.rows.sample_weight import weighted_rows
from sklearn_torch_gmm.training.fit import fit_sweep
from tests.rows.examples import Stream
from tests.searches import rows_of, search_for, three_groups

TYPES = ["full", "tied", "diag", "spherical"]
PARAMETERS = ["weights_", "means_", "covariances_", "precisions_cholesky_"]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def X():
    return three_groups()


def assert_same_fit(actual, expected):
    assert actual.n_iter_ == expected.n_iter_
    assert actual.converged_ == expected.converged_
    for name in PARAMETERS:
        # Sums in another order, grown over some iterations.
        np.testing.assert_allclose(
            getattr(actual, name), getattr(expected, name), rtol=1e-9, atol=1e-9
        )


def joint_log_densities(mixture, X):
    """Log π_k + log N(x | μ_k, Σ_k) [K, N], by scipy."""
    components, features = mixture.means_.shape
    structure = mixture.model_.structure
    covariances = structure.matrices(torch.tensor(mixture.covariances_), components, features)
    parts = zip(
        mixture.weights_, mixture.means_, covariances.expand(components, -1, -1), strict=True
    )
    return np.array([np.log(w) + multivariate_normal(m, c).logpdf(X) for w, m, c in parts])


# -- the same as one by one -----------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("start", ["kmeans", "random"])
def test_each_fit_is_that_of_the_drop_in_with_the_same_seed(X, start, weighted):
    weights = np.random.default_rng(1).integers(0, 4, size=240) if weighted else None
    options = {"n_init": 2, "init_params": start}
    search = search_for(**options).fit(X, sample_weight=weights)
    found = {}
    for row in rows_of(search):
        if row["is_kept"]:
            key = row["covariance_type"], row["n_components"]
            alone = GaussianMixture(key[1], covariance_type=key[0], random_state=0, **options)
            alone.fit(X, sample_weight=weights)
            found[key] = alone
            assert row["n_iter"] == alone.n_iter_
            assert row["converged"] == alone.converged_
            assert row["lower_bound"] == pytest.approx(alone.lower_bound_, rel=1e-10)
            for name in ("bic", "aic"):
                assert row[name] == pytest.approx(
                    getattr(alone, name)(X, sample_weight=weights), rel=1e-9
                )
    assert len(found) == 16
    best = min(found, key=lambda key: found[key].bic(X, sample_weight=weights))
    assert (search.covariance_type_, search.n_components_) == best
    assert_same_fit(search.best_estimator_, found[best])
    assert vars(search.best_estimator_).keys() == vars(found[best]).keys()
    assert search.best_estimator_.n_samples_seen_ == found[best].n_samples_seen_
    np.testing.assert_array_equal(search.labels_, found[best].labels_)
    # The chosen mixture can be fitted again.
    assert_same_fit(clone(search.best_estimator_).fit(X, sample_weight=weights), found[best])


@pytest.mark.parametrize("kind", ["whole", "batches", "weights", "processes"])
def test_each_fit_is_the_drop_in_fitted_separately(X, kind):
    """All of them, the labels included, where the table holds one number of each."""
    weights = np.random.default_rng(1).integers(0, 4, size=240) if kind == "weights" else None
    options = {"n_init": 2, "batch_size": 31 if kind == "batches" else None}
    if kind == "processes":
        options["trainer_params"] = {"accelerator": "cpu", "devices": 2, "strategy": "ddp_fork"}
    candidates = [
        GaussianMixture(size, covariance_type=name, random_state=0, **options)
        for name in TYPES
        for size in (1, 3, 4)
    ]
    rows = ArrayRows(*weighted_rows(X, weights))
    results = fit_sweep(rows, selection.settings_of_all(candidates, 3))
    for candidate, starts in zip(candidates, results, strict=True):
        kept = starts[selection.best_restart(starts)]
        alone = candidate.clone().set_params(trainer_params=None).fit(X, sample_weight=weights)
        assert len(kept.lower_bounds) == alone.n_iter_
        assert kept.converged == alone.converged_
        np.testing.assert_allclose(kept.lower_bounds, alone.lower_bounds_, rtol=1e-10)
        mixture = candidate.clone()
        set_parameters(mixture, kept.parameters, X.dtype)
        for name in PARAMETERS:
            np.testing.assert_allclose(
                getattr(mixture, name), getattr(alone, name), rtol=1e-9, atol=1e-9
            )
        np.testing.assert_array_equal(mixture.predict(X), alone.labels_)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("covariance_type", TYPES)
def test_criteria_are_those_of_their_formulas(X, covariance_type, weighted):
    weights = np.random.default_rng(1).integers(1, 4, size=240) if weighted else None
    search = search_for(3, 3, covariance_type=covariance_type).fit(X, sample_weight=weights)
    w = np.ones(240) if weights is None else weights
    joint = joint_log_densities(search.best_estimator_, X)
    log_likelihood = w @ logsumexp(joint, axis=0)
    certainty = w @ log_softmax(joint, axis=0).max(0)
    # Two weights, nine means, and the covariances of three components of three features.
    parameters = 2 + 9 + {"full": 18, "tied": 6, "diag": 9, "spherical": 3}[covariance_type]
    bic = -2 * log_likelihood + parameters * np.log(w.sum())
    (row,) = rows_of(search)
    assert row["n_parameters"] == parameters
    assert row["log_likelihood"] == pytest.approx(log_likelihood, rel=1e-10)
    assert row["bic"] == pytest.approx(bic, rel=1e-10)
    assert row["aic"] == pytest.approx(-2 * log_likelihood + 2 * parameters, rel=1e-10)
    assert row["icl"] == pytest.approx(bic - 2 * certainty, rel=1e-10)
    assert row["icl"] > row["bic"]


@pytest.mark.parametrize("criterion", ["bic", "aic", "icl"])
def test_the_smallest_criterion_wins(X, criterion):
    search = search_for(criterion=criterion, n_init=2).fit(X)
    kept = [row for row in rows_of(search) if row["is_kept"]]
    best = min(kept, key=lambda row: row[criterion])
    assert (search.n_components_, search.covariance_type_) == (
        best["n_components"],
        best["covariance_type"],
    )
    starts = {}
    for row in rows_of(search):
        starts.setdefault((row["covariance_type"], row["n_components"]), []).append(row)
    for rows in starts.values():
        assert [row["start"] for row in rows] == [0, 1]
        (best,) = (row for row in rows if row["is_kept"])
        assert best["lower_bound"] >= max(row["lower_bound"] for row in rows) - 1e-9
    assert all(row["seconds"] > 0 for row in rows_of(search))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("cv", [3, KFold(4)], ids=["number", "splitter"])
def test_held_out_likelihood_is_that_of_cross_validation(X, cv, weighted):
    weights = np.random.default_rng(1).uniform(0.5, 2.0, size=240) if weighted else None
    options = {"covariance_type": ["diag", "full"], "n_init": 2}
    search = search_for(1, 3, criterion="cv", cv=cv, **options).fit(X, sample_weight=weights)
    splitter = KFold(3, shuffle=True, random_state=0) if cv == 3 else cv
    scores = {}
    for row in rows_of(search):
        key = row["covariance_type"], row["n_components"]
        mixture = GaussianMixture(key[1], covariance_type=key[0], n_init=2, random_state=0)
        if key not in scores:
            with config_context(enable_metadata_routing=True):
                mixture.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
                params = None if weights is None else {"sample_weight": weights}
                scores[key] = cross_val_score(mixture, X, cv=splitter, params=params)
        assert row["mean_test_score"] == pytest.approx(scores[key].mean(), rel=1e-8)
        assert row["std_test_score"] == pytest.approx(scores[key].std(), rel=1e-6)
    best = max(scores, key=lambda key: scores[key].mean())
    assert (search.covariance_type_, search.n_components_) == best


def test_stability_is_the_mean_agreement_of_two_starts(X):
    options = {"covariance_type": "diag", "init_params": "random_from_data"}
    search = search_for(1, 4, n_init=3, stability=True, **options).fit(X)
    for components in (1, 4):
        random_state = np.random.RandomState(0)
        one, two, three = (
            GaussianMixture(components, random_state=random_state, **options).fit_predict(X)
            for _ in range(3)
        )
        pairs = [(one, two), (one, three), (two, three)]
        expected = np.mean([adjusted_rand_score(*pair) for pair in pairs])
        rows = search.results_["n_components"] == components
        np.testing.assert_allclose(search.results_["stability"][rows], expected, rtol=1e-12)
    assert np.isnan(search_for(stability=True).fit(X).results_["stability"]).all()


def test_stability_counts_a_weight_as_copies_and_a_weight_of_zero_as_none(X):
    weights = np.random.default_rng(0).integers(0, 4, size=len(X))

    def start(rows, components, random_state):
        """The same for repeated rows."""
        direction = random_state.normal(size=rows.shape[1])
        distinct = np.unique(rows, axis=0)
        return distinct[np.argsort(distinct @ direction)[: 2 * components : 2]]

    options = {"covariance_type": "diag", "init_params": start, "n_init": 3, "stability": True}
    search = search_for(2, 4, **options)
    kept = weights > 0
    weighted = search.fit(X[kept], sample_weight=weights[kept]).results_["stability"]
    for data, given in ((X, weights), (np.repeat(X, weights, axis=0), None)):
        found = search.fit(data, sample_weight=given).results_["stability"]
        np.testing.assert_allclose(found, weighted, rtol=1e-9)
    assert np.ptp(weighted) > 0.1
    # Weights that are no copies count as samples.
    alone = search.fit(X).results_["stability"]
    for weight, tolerance in ((1 / len(X), 1e-9), (1e-300, 1e-9), (1e300, 0.01)):
        alike = search.fit(X, sample_weight=np.full(len(X), weight)).results_["stability"]
        # Many copies of each sample differ slightly from one.
        np.testing.assert_allclose(alike, alone, atol=tolerance)


def test_stability_of_data_that_are_read_in_another_order_each_time(X):
    data = TensorDataset(torch.as_tensor(X))
    search = search_for(2, 5, criterion="stability", n_init=3, init_params="random_from_data")
    shuffled = search.fit(DataLoader(data, batch_size=40, shuffle=True)).results_["stability"]
    # Labels in different orders agree as if by chance, with values around zero.
    assert shuffled.mean() > 0.4


def test_the_choice_by_stability_is_the_smallest_bic_of_the_most_stable(X):
    search = search_for(1, 6, criterion="stability", n_init=4, init_params="random_from_data").fit(
        X
    )
    kept = [row for row in rows_of(search) if row["is_kept"] and row["n_components"] > 1]
    largest = max(row["stability"] for row in kept)
    assert min(row["stability"] for row in kept) < largest - 0.1, "or there is nothing to choose"
    stable = [row for row in kept if row["stability"] >= largest - 0.01]
    best = min(stable, key=lambda row: row["bic"])
    assert (search.n_components_, search.covariance_type_) == (
        best["n_components"],
        best["covariance_type"],
    )
    assert search.best_estimator_.bic(X) == pytest.approx(best["bic"], rel=1e-9)


def test_stability_finds_groups_that_are_apart():
    """K-means starts find them each time, and cut them in other ways with more components."""
    rng = np.random.default_rng(0)
    X = 10.0 * rng.normal(size=(5, 3))[rng.integers(5, size=400)] + rng.normal(size=(400, 3))
    search = search_for(1, 9, criterion="stability", n_init=5, covariance_type="diag").fit(X)
    assert search.n_components_ == 5


# -- any data -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["batches", "tensor", "dataset", "stream", "loader", "processes"])
def test_data_of_any_kind(X, kind):
    options = {"n_init": 2, "covariance_type": ["diag", "tied"]}
    expected = search_for(**options).fit(X)
    data = {
        "tensor": torch.tensor(X),
        "dataset": TensorDataset(torch.tensor(X)),
        "stream": Stream(X),
        "loader": DataLoader(TensorDataset(torch.tensor(X)), batch_size=50),
    }.get(kind, X)
    if kind == "batches":
        options["batch_size"] = 31
    if kind == "processes":
        options["trainer_params"] = {"accelerator": "cpu", "devices": 2, "strategy": "ddp_fork"}
    search = search_for(**options).fit(data)
    for name, column in expected.results_.items():
        if column.dtype.kind == "f" and name != "seconds":
            np.testing.assert_allclose(search.results_[name], column, rtol=1e-8, atol=1e-8)
        elif name != "seconds":
            np.testing.assert_array_equal(search.results_[name], column)
    assert_same_fit(search.best_estimator_, expected.best_estimator_)
    assert hasattr(search, "labels_") == (kind not in ("dataset", "stream", "loader"))
    labels = search.predict(data)
    assert isinstance(labels, torch.Tensor) == (kind in ("tensor", "dataset", "loader"))
    np.testing.assert_array_equal(np.asarray(labels), expected.labels_)


def test_a_stream_is_read_once_an_iteration_however_many_mixtures(X):
    class Counted(Stream):
        times = 0

        def __iter__(self):
            self.times += 1
            return iter(self.rows)

    stream = Counted(X)
    search = search_for(n_init=3).fit(stream)
    # Its width, the start and the scores are a pass each.
    assert stream.times == search.results_["n_iter"].max() + 3


def test_weights_that_come_with_the_rows(X):
    weights = np.random.default_rng(1).uniform(0.5, 2.0, size=240)
    pairs = list(zip(X, weights, strict=True))
    actual = search_for(covariance_type="diag").fit(Stream(pairs), sample_weight=True)
    expected = search_for(covariance_type="diag").fit(X, sample_weight=weights)
    np.testing.assert_allclose(actual.results_["bic"], expected.results_["bic"], rtol=1e-9)


def test_single_precision_stays_single(X):
    search = search_for().fit(X.astype(np.float32))
    assert search.best_estimator_.means_.dtype == np.float32
    assert search.score_samples(X.astype(np.float32)).dtype == np.float32


# -- scikit-learn ---------------------------------------------------------------------------------


def expected_failed_checks(search):
    """What no estimator can do that starts at random, where the check's data show it."""
    if search.criterion != "icl":
        return {}
    reason = "rows that are repeated or removed are drawn with other random numbers"
    return {"check_sample_weight_equivalence_on_dense_data": reason}


@parametrize_with_checks(
    [
        GaussianMixtureIC(2, 3, covariance_type=["diag", "full"]),
        GaussianMixtureIC(1, 2, criterion="cv", cv=2, covariance_type="spherical"),
        GaussianMixtureIC(1, 2, criterion="icl", n_init=2, stability=True, covariance_type="tied"),
    ],
    expected_failed_checks=expected_failed_checks,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_questions_are_those_of_the_chosen_mixture(X):
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    search = search_for().fit(frame)
    best = search.best_estimator_
    assert list(search.feature_names_in_) == list(best.feature_names_in_) == ["a", "b", "c"]
    for name in ("predict", "predict_proba", "score_samples"):
        np.testing.assert_array_equal(getattr(search, name)(frame), getattr(best, name)(frame))
    for name in ("score", "bic", "aic"):
        assert getattr(search, name)(frame) == getattr(best, name)(frame)
    for actual, expected in zip(search.sample(7), best.sample(7), strict=True):
        np.testing.assert_array_equal(actual, expected)
    with pytest.raises(NotFittedError):
        search_for().predict(X)


def test_pickle_and_clone(X):
    search = search_for(covariance_type=["diag", "full"], criterion="icl").fit(X)
    copy = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(copy.labels_, search.labels_)
    np.testing.assert_array_equal(copy.predict(X), search.predict(X))
    fresh = clone(search)
    assert fresh.get_params() == search.get_params()
    assert not hasattr(fresh, "results_")


def test_in_a_pipeline_with_routed_weights(X):
    weights = np.random.default_rng(1).integers(0, 3, size=240)
    expected = search_for().fit(StandardScaler().fit_transform(X), sample_weight=weights)
    with config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        search = search_for().set_fit_request(sample_weight=True)
        pipeline = make_pipeline(scaler, search).fit(X, sample_weight=weights)
    assert_same_fit(pipeline[-1].best_estimator_, expected.best_estimator_)


def test_in_a_grid_search_over_the_criterion(X):
    grid = GridSearchCV(search_for(covariance_type="diag"), {"criterion": ["aic", "cv"]}, cv=2)
    grid.fit(X)
    scores = [
        cross_val_score(search_for(covariance_type="diag", criterion=name), X, cv=2).mean()
        for name in ("aic", "cv")
    ]
    np.testing.assert_allclose(grid.cv_results_["mean_test_score"], scores, rtol=1e-12)
    best = grid.best_estimator_
    assert best.results_ is not None
    assert set(grid.predict(X)) <= set(range(best.n_components_))


def test_the_table_is_a_frame_with_a_row_for_each_fit(X):
    search = search_for(2, 4, n_init=2, covariance_type=["tied", "diag"], criterion="cv", cv=2)
    table = pd.DataFrame(search.set_params(stability=True).fit(X).results_)
    keys = ["covariance_type", "n_components", "start"]
    expected = [(name, size, start) for name in ("tied", "diag") for size in (2, 3, 4)
                for start in (0, 1)]  # fmt: skip
    assert list(table[keys].itertuples(index=False, name=None)) == expected
    assert list(table.columns) == [
        "n_components", "covariance_type", "start", "is_kept", "n_parameters", "log_likelihood",
        "lower_bound", "bic", "aic", "icl", "n_iter", "converged", "seconds", "error",
        "mean_test_score", "std_test_score", "stability",
    ]  # fmt: skip
    assert table.is_kept.dtype == table.converged.dtype == bool
    assert (table.groupby(["covariance_type", "n_components"]).is_kept.sum() == 1).all()


def test_a_seed_that_is_no_int_is_drawn_once(X):
    one, two = (search_for(random_state=np.random.RandomState(3)).fit(X) for _ in range(2))
    np.testing.assert_array_equal(one.results_["bic"], two.results_["bic"])
    seed = one.best_estimator_.random_state
    assert seed == np.random.RandomState(3).randint(np.iinfo(np.int32).max)


@pytest.mark.parametrize("difference", [1e-3, 1e-1])
def test_one_tied_component_is_one_full_component(difference):
    """Where nearly all of a feature is another one, and squares lose what is left."""
    rng = np.random.default_rng(0)
    x = 1e4 * rng.standard_normal((1000, 1))
    X = np.hstack([x, x + difference * rng.standard_normal((1000, 1))])
    search = GaussianMixtureIC(1, 1, covariance_type=["tied", "full"], random_state=0).fit(X)
    tied, full = search.results_["log_likelihood"]
    # The entries of a covariance are rounded, which moves its smallest variance: by eps times the
    # condition number, for each sample.
    atol = len(X) * np.finfo(float).eps * (1e4 / difference) ** 2
    assert tied == pytest.approx(full, rel=1e-12, abs=atol)
    best = search.best_estimator_
    assert best.score(X) * len(X) == pytest.approx(full, rel=1e-12, abs=atol)


@pytest.mark.parametrize("options", [{"criterion": "cv"}, {"stability": True, "n_init": 2}])
@pytest.mark.filterwarnings("error")
def test_names_of_features_are_remembered_without_a_warning(X, options):
    frame = pd.DataFrame(X, columns=[f"column {i}" for i in range(X.shape[1])])
    search = GaussianMixtureIC(1, 2, random_state=0, **options).fit(frame)
    assert list(search.best_estimator_.feature_names_in_) == list(frame.columns)
    search.predict(frame)


def test_candidates_of_which_each_fails_somewhere_are_no_comparison(X):
    def start(rows, num_components, random_state):
        fails = len(rows) == len(X) if num_components == 2 else len(rows) < len(X)
        if fails:
            raise ValueError(f"no start of {num_components}")
        return rows[:num_components]

    search = GaussianMixtureIC(
        2, 3, covariance_type="diag", init_params=start, criterion="cv", random_state=0
    )
    with pytest.raises(ValueError, match="no start of 3"):
        search.fit(X)


def test_samples_without_weight_are_in_no_fold(X, rng):
    order = rng.permutation(len(X))
    weights = np.zeros(len(X))
    weights[:30] = 1.0
    of_all, of_kept = (
        search_for(1, 3, covariance_type="diag", criterion="cv", cv=3).fit(rows, sample_weight=own)
        for rows, own in ((X[order], weights[order]), (X[order][weights[order] > 0], np.ones(30)))
    )
    np.testing.assert_allclose(
        of_all.results_["mean_test_score"], of_kept.results_["mean_test_score"], rtol=1e-9
    )


def test_folds_may_be_tuples(X):
    folds = [(tuple(range(100)), tuple(range(100, 240)))]
    search = search_for(1, 2, criterion="cv", cv=folds).fit(X)
    assert np.isfinite(search.results_["mean_test_score"]).all()


def test_a_fold_without_weight_is_named(X):
    half = len(X) // 2
    weights = np.repeat([0.0, 1.0], [half, len(X) - half])
    folds = [(np.arange(half, len(X)), np.arange(half))]
    search = GaussianMixtureIC(1, 2, criterion="cv", cv=folds)
    with pytest.raises(ValueError, match="inside or outside of a fold of cv"):
        search.fit(X, sample_weight=weights)


def test_a_subclass_may_fit_without_weights(X):
    class Search(GaussianMixtureIC):
        def fit(self, X, y=None):
            self.seen_ = y
            return super().fit(X)

    search = Search(1, 2, random_state=0)
    assert len(search.fit_predict(X, "y")) == len(X)
    assert search.seen_ == "y"


def test_a_subclass_may_fit_to_rows_alone(X):
    class OfRows(GaussianMixtureIC):
        def fit(self, X, sample_weight=None):
            return super().fit(X, sample_weight=sample_weight)

    weights = np.arange(len(X)) % 3
    alone = OfRows(1, 2, random_state=0)
    labels = GaussianMixtureIC(1, 2, random_state=0).fit_predict(X, sample_weight=weights)
    np.testing.assert_array_equal(alone.fit_predict(X, sample_weight=weights), labels)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint64, bool])
def test_folds_of_a_tensor_may_be_numbers_or_masks_of_any_type(X, dtype):
    numbers = np.arange(len(X)) % 2
    folds = [(np.flatnonzero(numbers == 0), np.flatnonzero(numbers == 1))]
    expected = search_for(1, 2, criterion="cv", cv=folds).fit(X)
    if dtype is bool:
        folds = [(numbers == 0, numbers == 1)]
    else:
        folds = [tuple(part.astype(dtype) for part in folds[0])]
    found = search_for(1, 2, criterion="cv", cv=folds).fit(torch.tensor(X))
    np.testing.assert_allclose(
        found.results_["mean_test_score"], expected.results_["mean_test_score"], rtol=1e-12
    )
