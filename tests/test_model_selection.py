"""Choosing the number of components, against a loop of single fits and densities of scipy's."""

import pickle
import re
import threading

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from scipy.special import log_softmax, logsumexp
from scipy.stats import multivariate_normal
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning, NotFittedError
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from sklearn_torch_gmm import GaussianMixtureIC, _sweep
from sklearn_torch_gmm._weights import weighted_rows
from sklearn_torch_gmm.exceptions import IllDefinedCovarianceError
from sklearn_torch_gmm.mixture import GaussianMixture
from sklearn_torch_gmm.training import kmeans
from sklearn_torch_gmm.training.arrays import ArrayRows
from sklearn_torch_gmm.training.fit import fit_sweep

TYPES = ["full", "tied", "diag", "spherical"]
PARAMETERS = ["weights_", "means_", "covariances_", "precisions_cholesky_"]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0, 0.0], [4.0, 0.0, 1.0], [0.0, 5.0, 2.0]])
    return centres[rng.integers(3, size=240)] + rng.normal(size=(240, 3)) * [1.0, 0.7, 0.5]


class Stream(IterableDataset):
    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


def search_for(low=1, high=4, **options):
    return GaussianMixtureIC(low, high, **{"random_state": 0} | options)


def rows_of(search):
    """The table row by row."""
    return pd.DataFrame(search.results_).to_dict("records")


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
def test_each_member_is_the_drop_in_fitted_alone(X, kind):
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
    results = fit_sweep(rows, _sweep.settings_of(candidates, 3))
    for candidate, starts in zip(candidates, results, strict=True):
        kept = starts[_sweep.kept_start(starts)]
        alone = candidate.clone().set_params(trainer_params=None).fit(X, sample_weight=weights)
        assert len(kept.lower_bounds) == alone.n_iter_
        assert kept.converged == alone.converged_
        np.testing.assert_allclose(kept.lower_bounds, alone.lower_bounds_, rtol=1e-10)
        member = candidate.clone()
        member._set_fitted(kept.parameters, X.dtype)
        for name in PARAMETERS:
            np.testing.assert_allclose(
                getattr(member, name), getattr(alone, name), rtol=1e-9, atol=1e-9
            )
        np.testing.assert_array_equal(member.predict(X), alone.labels_)


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
        (likeliest,) = (row for row in rows if row["is_kept"])
        assert likeliest["lower_bound"] >= max(row["lower_bound"] for row in rows) - 1e-9
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
    assert isinstance(labels, torch.Tensor) == (kind == "tensor")
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


# -- what can go wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_components": 5}, "min_components=5 is more than max_components=4"),
        ({"max_components": 241}, "max_components = 241, n_samples = 240"),
        ({"criterion": "mdl"}, "The 'criterion' parameter of GaussianMixtureIC must be a str"),
        ({"covariance_type": "round"}, "The 'covariance_type' parameter"),
        ({"covariance_type": ["full", "round"]}, "covariance_type must hold some of"),
        ({"covariance_type": []}, "covariance_type must hold some of"),
        ({"covariance_type": [["full"]]}, "covariance_type must hold some of"),
        ({"n_init": 0}, "The 'n_init' parameter"),
        ({"criterion": "cv", "cv": 1}, "The 'cv' parameter"),
        ({"criterion": "cv", "cv": []}, "pairs of indices"),
        ({"min_components": 0}, "The 'min_components' parameter"),
        ({"init_params": [0, 1]}, "The 'init_params' parameter"),
        ({"max_iter": 0}, "The 'max_iter' parameter"),
        ({"trainer_params": {"max_epochs": 3}}, "use max_iter alone"),
        ({"criterion": "cv", "cv": KFold(2), "max_components": 200}, "a fit has 120 rows"),
    ],
)
def test_bad_parameters(X, options, message):
    search = search_for().set_params(**options)
    with pytest.raises(ValueError, match=re.escape(message)):
        search.fit(X)
    assert not hasattr(search, "best_estimator_")


def test_more_components_than_rows_of_a_stream(X):
    with pytest.raises(ValueError, match="n_components = 4, n_samples = 3"):
        search_for().fit(Stream(X[:3]))


def test_held_out_likelihood_needs_rows_in_memory(X):
    with pytest.raises(ValueError, match=r"criterion='cv' needs rows in memory.*not a Stream"):
        search_for(criterion="cv").fit(Stream(X))


def collapsing(X):
    """A component on the last rows has no covariance."""
    return np.vstack([X, np.full((100, 3), 30.0)])


def test_a_fit_that_fails_is_recorded_and_the_others_are_compared(X):
    search = search_for(1, 2, covariance_type=["full", "tied"], reg_covar=0.0)
    with pytest.warns(FitFailedWarning, match="1 of 4 fits failed.*IllDefinedCovarianceError"):
        search.fit(collapsing(X))
    one, failed, *tied = rows_of(search)
    assert failed["error"].startswith("IllDefinedCovarianceError: Fitting the mixture model failed")
    assert np.isnan([failed[name] for name in ("bic", "aic", "icl", "log_likelihood")]).all()
    assert not failed["is_kept"]
    assert [row["error"] for row in (one, *tied)] == ["", "", ""]
    assert search.covariance_type_ == "tied"


def test_a_fit_that_fails_in_a_fold_has_no_score(X):
    """With these folds the last hundred rows are inside of some fits, and outside of one."""
    search = search_for(
        1, 2, covariance_type=["full", "tied"], reg_covar=0.0, criterion="cv", cv=KFold(3)
    )
    with pytest.warns(FitFailedWarning):
        search.fit(collapsing(X))
    scores = {
        (r["covariance_type"], r["n_components"]): r["mean_test_score"] for r in rows_of(search)
    }
    assert [key for key, score in scores.items() if np.isnan(score)] == [("full", 2)]


def test_a_start_of_ones_own_may_fail_for_some_sizes(X):
    def first_rows(rows, components, random_state):
        if components == 3:
            raise ValueError("not three")
        return rows[:components]

    search = search_for(2, 4, covariance_type="diag", init_params=first_rows)
    with pytest.warns(FitFailedWarning, match="1 of 3 fits failed.*ValueError: not three"):
        search.fit(X)
    assert list(search.results_["error"]) == ["", "ValueError: not three", ""]
    with pytest.raises(ValueError, match="not three"):
        search.set_params(min_components=3, max_components=3).fit(X)


def test_all_fail_with_the_error_of_the_first():
    rows = np.repeat(np.eye(3), 10, axis=0)
    for options in ({}, {"criterion": "cv"}):
        search = search_for(2, 3, covariance_type=["full", "diag"], reg_covar=0.0, **options)
        with pytest.raises(IllDefinedCovarianceError, match="Component 0"):
            search.fit(rows)


class Interrupt(pl.Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("criterion", ["bic", "cv"])
def test_an_interrupted_search_leaves_nothing_half_done(X, criterion):
    options = {"trainer_params": {"callbacks": [Interrupt()]}, "tol": 0.0, "criterion": criterion}
    search = search_for(**options)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X)
    assert not hasattr(search, "best_estimator_")
    assert not hasattr(search, "results_")
    fitted = search_for(2, 3).fit(X)
    before = {name: value for name, value in vars(fitted).items() if name.endswith("_")}
    with pytest.raises(KeyboardInterrupt):
        fitted.set_params(**options).fit(X[:, :2])
    assert {n: v for n, v in vars(fitted).items() if n.endswith("_")} == before
    assert fitted.predict(X).shape == (240,)


def test_a_search_interrupted_while_it_finds_its_starts(X, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(kmeans, "kmeans_plusplus", interrupt)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    search = search_for()
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        search.fit(X)
    assert not hasattr(search, "results_")
    assert threading.active_count() == threads


@pytest.mark.filterwarnings("default::sklearn.exceptions.ConvergenceWarning")
def test_a_warning_where_the_chosen_mixture_has_not_converged(X):
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        search_for(tol=0.0, max_iter=2).fit(X)


def test_it_is_silent_unless_asked(X, capfd):
    search_for().fit(X)
    assert capfd.readouterr() == ("", "")
    search = search_for(verbose=1).fit(X)
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 16
    best = f"{search.covariance_type_}, n_components={search.n_components_}, bic="
    assert lines[-1].startswith("[16/16] ")
    assert lines[-1].partition("best so far: ")[2].startswith(best)
