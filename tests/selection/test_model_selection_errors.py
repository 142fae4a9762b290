"""What can go wrong in a search for the number of components, and what it says."""

import re
import threading

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.model_selection import KFold, StratifiedKFold

from sklearn_torch_gmm.em import kmeans
from sklearn_torch_gmm.exceptions import IllDefinedCovarianceError
from tests.rows.examples import Stream
from tests.searches import rows_of, search_for, three_groups

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def X():
    return three_groups()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_components": 5}, "min_components=5 is more than max_components=4"),
        ({"max_components": 241}, "max_components = 241, n_samples = 240"),
        ({"criterion": "mdl"}, "The 'criterion' parameter of GaussianMixtureIC must be a str"),
        ({"covariance_type": "round"}, "The 'covariance_type' parameter"),
        ({"covariance_type": ["full", "round"]}, "covariance_type must hold some of"),
        ({"min_components": 0}, "The 'min_components' parameter"),
        ({"init_params": [0, 1]}, "The 'init_params' parameter"),
        ({"max_iter": 0}, "The 'max_iter' parameter"),
        ({"trainer_params": {"max_epochs": 3}}, "use only max_iter"),
        ({"criterion": "cv", "cv": KFold(2), "max_components": 200}, "a fit has 120 samples"),
    ],
)
def test_bad_parameters(X, options, message):
    search = search_for().set_params(**options)
    with pytest.raises(ValueError, match=re.escape(message)):
        search.fit(X)
    assert not hasattr(search, "best_estimator_")


def test_more_components_than_rows_of_a_stream(X):
    with pytest.raises(ValueError, match="max_components = 4, n_samples = 3"):
        search_for().fit(Stream(X[:3]))


def test_held_out_likelihood_needs_rows_in_memory(X):
    with pytest.raises(ValueError, match=r"criterion='cv' needs samples in memory.*not a Stream"):
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


@pytest.mark.parametrize("options", [{}, {"criterion": "cv"}, {"stability": True, "n_init": 2}])
def test_variances_that_the_type_of_the_data_cannot_hold_are_an_error_of_their_fit(options):
    X = np.zeros((120, 1), np.float32)
    rng = np.random.default_rng(0)
    X[::2, 0], X[1::2, 0] = rng.normal(size=60), 1e-24 * rng.normal(size=60)

    def start(rows, components, random_state):
        return (np.abs(rows[:, 0]) < 1e-20) * (components - 1)

    search = search_for(1, 2, covariance_type=["diag", "tied"], reg_covar=0.0, init_params=start)
    with pytest.warns(FitFailedWarning, match=r"UnrepresentableParameterError: Component 1"):
        search.set_params(**options).fit(X)
    failed = {(r["covariance_type"], r["n_components"]) for r in rows_of(search) if r["error"]}
    assert failed == {("diag", 2)}


def test_a_splitter_that_needs_classes_is_named(X):
    search = search_for(criterion="cv", cv=StratifiedKFold(3))
    with pytest.raises(ValueError, match=r"cv=StratifiedKFold.* needs more than samples"):
        search.fit(X)


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
    monkeypatch.setattr(kmeans, "FEWEST_SIDE_BY_SIDE", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    search = search_for()
    before = threading.enumerate()
    with pytest.raises(KeyboardInterrupt):
        search.fit(X)
    assert not hasattr(search, "results_")
    # They end by themselves, but nobody waits for them.
    for thread in set(threading.enumerate()).difference(before):
        thread.join(60.0)
        assert not thread.is_alive()


@pytest.mark.filterwarnings("default::sklearn.exceptions.ConvergenceWarning")
def test_a_warning_where_the_chosen_mixture_has_not_converged(X):
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        search_for(tol=0.0, max_iter=2).fit(X)


@pytest.mark.parametrize("options", [{"n_init": 1}, {"n_init": 2, "max_components": 1}])
def test_stability_needs_two_starts_of_two_components(X, options):
    search = search_for(criterion="stability").set_params(**options)
    with pytest.raises(ValueError, match="needs n_init and max_components of at least 2"):
        search.fit(X)


def test_stability_of_which_nothing_succeeded_twice(X):
    def once(rows, components, random_state):
        if random_state.randint(2) == 0 or components > 1:
            raise ValueError("no start")
        return rows[:components]

    search = search_for(1, 2, criterion="stability", n_init=6, init_params=once)
    with pytest.raises(ValueError, match="no mixture of two or more components has two"):
        search.fit(X)


@pytest.mark.parametrize("shape", [(-1, 1), (1, -1)])
def test_folds_are_lists_of_indices(X, shape):
    folds = [(np.arange(100).reshape(shape), np.arange(100, 200).reshape(shape))]
    with pytest.raises(ValueError, match="cv must be a number of folds, a splitter, or pairs"):
        search_for(1, 2, criterion="cv", cv=folds).fit(X)
