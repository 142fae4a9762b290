"""The drop-in class in scikit-learn's tools, and in programs built on them."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone, is_clusterer
from sklearn.datasets import load_iris
from sklearn.ensemble import VotingClassifier
from sklearn.mixture import GaussianMixture as Theirs
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_torch_gmm.mixture import BayesianGaussianMixture, GaussianMixture
from tests.estimators import expected_failed_checks
from tests.parity import COVARIANCE_TYPES


@pytest.fixture
def X():
    return load_iris().data


@pytest.fixture
def y():
    return load_iris().target


@parametrize_with_checks(
    [
        GaussianMixture(components, covariance_type=covariance_type)
        for covariance_type in COVARIANCE_TYPES
        for components in (1, 2)
    ]
    + [
        BayesianGaussianMixture(
            n_components=components,
            covariance_type=covariance_type,
            weight_concentration_prior_type=prior_type,
        )
        for components, covariance_type, prior_type in [
            (1, "full", "dirichlet_process"),
            (2, "tied", "dirichlet_process"),
            (2, "diag", "dirichlet_distribution"),
            (1, "spherical", "dirichlet_distribution"),
        ]
    ],
    expected_failed_checks=expected_failed_checks,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


class DensityClassifier(ClassifierMixin, BaseEstimator):
    """Bayes' rule with a mixture for each class, as programs build it from scikit-learn's class."""

    def __init__(self, mixture):
        self.mixture = mixture

    def fit(self, X, y):
        self.classes_, counts = np.unique(y, return_counts=True)
        self.priors_ = counts / counts.sum()
        self.mixtures_ = [clone(self.mixture).fit(X[y == label]) for label in self.classes_]
        return self

    def predict_proba(self, X):
        densities = [mixture.score_samples(X) for mixture in self.mixtures_]
        joint = np.column_stack(densities) + np.log(self.priors_)
        posterior = np.exp(joint - joint.max(axis=1, keepdims=True))
        return posterior / posterior.sum(axis=1, keepdims=True)

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def test_a_grid_search_has_the_scores_and_the_winner_of_scikit_learn(X):
    # Of one component, full and tied are the same: their ranks would be those of rounding.
    grid = {"n_components": [2, 3, 4], "covariance_type": list(COVARIANCE_TYPES)}
    theirs, ours = (
        GridSearchCV(mixture_class(random_state=0), grid, cv=3).fit(X)
        for mixture_class in (Theirs, GaussianMixture)
    )
    for scores in ("mean_test_score", "std_test_score", "rank_test_score"):
        np.testing.assert_allclose(
            ours.cv_results_[scores], theirs.cv_results_[scores], rtol=1e-6, atol=1e-6
        )
    assert ours.best_params_ == theirs.best_params_
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


def test_cross_val_score_of_a_pipeline(X):
    theirs, ours = (
        cross_val_score(make_pipeline(StandardScaler(), mixture_class(2, random_state=0)), X)
        for mixture_class in (Theirs, GaussianMixture)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_parameters_of_a_pipeline_step(X):
    pipeline = make_pipeline(StandardScaler(), GaussianMixture(random_state=0))
    pipeline.set_params(gaussianmixture__n_components=3, gaussianmixture__covariance_type="diag")
    theirs = make_pipeline(
        StandardScaler(), Theirs(3, covariance_type="diag", random_state=0)
    ).fit_predict(X)
    np.testing.assert_array_equal(pipeline.fit_predict(X), theirs)


def test_both_classes_side_by_side_in_an_ensemble(X, y):
    members = [
        ("theirs", DensityClassifier(Theirs(2, random_state=0))),
        ("ours", DensityClassifier(GaussianMixture(2, random_state=0))),
    ]
    ensemble = make_pipeline(StandardScaler(), VotingClassifier(members, voting="soft")).fit(X, y)
    votes = ensemble[-1].transform(ensemble[:-1].transform(X))
    theirs, ours = np.split(votes, 2, axis=1)
    np.testing.assert_allclose(ours, theirs, atol=1e-9)
    # The mean of two equal opinions is the opinion.
    np.testing.assert_allclose(ensemble.predict_proba(X), theirs, atol=1e-9)
    scores = [
        cross_val_score(make_pipeline(StandardScaler(), member), X, y)
        for member in (ensemble[-1], members[0][1], members[1][1])
    ]
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[1], scores[2])


def test_a_clone_has_the_parameters_and_no_results(X):
    mixture = GaussianMixture(3, means_init=X[:3], max_iter=7, trainer_params={"devices": 1})
    copy = clone(mixture)
    assert copy.get_params().keys() == mixture.get_params().keys()
    assert copy.n_components == 3
    assert copy.max_iter == 7
    assert copy.means_init is not mixture.means_init
    np.testing.assert_array_equal(copy.means_init, X[:3])
    assert not hasattr(clone(mixture.set_params(max_iter=200).fit(X)), "means_")


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_a_pickle_predicts_the_same(X, protocol):
    mixture = GaussianMixture(3, random_state=0).fit(X)
    copy = pickle.loads(pickle.dumps(mixture, protocol=protocol))
    np.testing.assert_array_equal(copy.predict_proba(X), mixture.predict_proba(X))
    np.testing.assert_array_equal(copy.means_, mixture.means_)
    np.testing.assert_array_equal(copy.sample(5)[0], mixture.sample(5)[0])


def test_n_clusters_is_the_number_of_components(X):
    mixture = GaussianMixture(2, random_state=0)
    assert mixture.n_clusters == 2
    mixture.set_params(n_clusters=4)
    assert mixture.n_components == 4
    assert "n_clusters" not in mixture.get_params()
    assert mixture.fit(X).means_.shape == (4, 4)


def test_tags_are_those_of_scikit_learn_for_a_clusterer():
    theirs, ours = get_tags(Theirs()), get_tags(GaussianMixture())
    assert is_clusterer(GaussianMixture())
    theirs.estimator_type = "clusterer"
    assert ours == theirs


def test_the_html_of_the_estimator_links_to_our_documentation():
    html = GaussianMixture(3)._repr_html_()
    assert "https://sklearn-torch-gmm.readthedocs.io/" in html
    assert "https://scikit-learn.org" not in html


def test_columns_have_names(X):
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    mixture = GaussianMixture(3, random_state=0).fit(frame)
    np.testing.assert_array_equal(mixture.feature_names_in_, ["a", "b", "c", "d"])
    assert mixture.n_features_in_ == 4
    np.testing.assert_array_equal(mixture.predict(frame), mixture.labels_)
    assert not hasattr(mixture.fit(X), "feature_names_in_")


@pytest.mark.parametrize("method", ["predict", "predict_proba", "score", "score_samples", "bic"])
@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame[["d", "c", "b", "a"]],
        lambda frame: frame[["a", "b", "c"]],
        lambda frame: frame.rename(columns={"a": "z"}),
        lambda frame: frame.to_numpy()[:, :2],
    ],
    ids=["order", "missing", "unknown", "unnamed and too few"],
)
# Without names there is a warning too, beside the error.
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_other_columns_are_refused_in_the_words_of_scikit_learn(X, method, change):
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    messages = []
    for mixture_class in (Theirs, GaussianMixture):
        mixture = mixture_class(2, random_state=0).fit(frame)
        with pytest.raises(ValueError, match="feature") as caught:
            getattr(mixture, method)(change(frame))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_names_on_one_side_only_are_warned_of(X):
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        GaussianMixture().fit(frame).predict(X)
    with pytest.warns(UserWarning, match="X has feature names"):
        GaussianMixture().fit(X).predict(frame)
