"""Subclasses of the drop-in give what they give with scikit-learn's class as their base."""

import numpy as np
import pytest
import sklearn.mixture
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from torch.utils.data import TensorDataset

from sklearn_torch_gmm import GaussianMixture as TorchMixture
from sklearn_torch_gmm.mixture import GaussianMixture

X = load_iris().data

BASES = [sklearn.mixture.GaussianMixture, GaussianMixture]

FITTED = ["weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def equal_weights(base):
    class Equal(base):
        def _m_step(self, X, log_resp, **kwargs):
            super()._m_step(X, log_resp, **kwargs)
            self.weights_ = np.full(self.n_components, 1 / self.n_components)

    return Equal


def own_initialization(base):
    class Sorted(base):
        def _initialize_parameters(self, X, random_state, **kwargs):
            resp = np.zeros((len(X), self.n_components))
            order = np.argsort(X[:, 0]).argsort() * self.n_components // len(X)
            resp[np.arange(len(X)), order] = 1
            self._initialize(X, resp)

    return Sorted


def tempered(base):
    class Tempered(base):
        def _estimate_log_prob(self, X, **kwargs):
            return 0.5 * super()._estimate_log_prob(X, **kwargs)

    return Tempered


def never_converged(base):
    class Never(base):
        def _compute_lower_bound(self, log_resp, log_prob_norm):
            return -np.abs(log_prob_norm) * np.random.default_rng(0).uniform()

    return Never


def labelled(base):
    class Labelled(base):
        """Rows of known labels belong to their components."""

        def _e_step(self, X, **kwargs):
            log_prob_norm, log_resp = super()._e_step(X, **kwargs)
            log_resp[:10] = np.where(np.arange(self.n_components) == 0, 0.0, -np.inf)
            return log_prob_norm, log_resp

    return Labelled


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize(
    "make", [equal_weights, own_initialization, tempered, never_converged, labelled]
)
def test_a_hook_is_in_force(make, covariance_type):
    theirs, ours = (
        make(base)(3, covariance_type=covariance_type, random_state=0, max_iter=20).fit(X)
        for base in BASES
    )
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.converged_ == theirs.converged_
    for name in FITTED:
        # The precisions are found anew from the factors.
        tolerance = 1e-12 if name == "precisions_" else 0.0
        expected = getattr(theirs, name)
        np.testing.assert_allclose(getattr(ours, name), expected, rtol=tolerance, err_msg=name)
    for question in ("predict", "predict_proba", "score_samples", "score", "bic", "aic"):
        expected = getattr(theirs, question)(X)
        np.testing.assert_allclose(getattr(ours, question)(X), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(
        clone(ours).fit_predict(X), clone(theirs).fit_predict(X), strict=False
    )


def test_the_issue_of_equal_weights():
    assert equal_weights(GaussianMixture)(2, random_state=0).fit(X).weights_.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("parameters", "arguments", "words"),
    [
        ({}, {"sample_weight": np.ones(150)}, "sample_weight"),
        ({}, {"ckpt_path": "last"}, "ckpt_path"),
        ({"batch_size": 10}, {}, "batch_size"),
        ({"num_workers": 1}, {}, "num_workers"),
        ({"trainer_params": {"devices": 1}}, {}, "trainer_params"),
        ({"fixed": ("means",)}, {}, "fixed"),
        ({"acceleration": "squarem"}, {}, "acceleration"),
        ({"init_params": np.arange(150) % 2}, {}, "an init_params that is not a name"),
    ],
)
def test_what_scikit_learns_loop_cannot_honour_is_told(parameters, arguments, words):
    mixture = equal_weights(GaussianMixture)(2, **parameters)
    with pytest.raises(TypeError, match=rf"Equal overrides _m_step, so .* do not accept {words}"):
        mixture.fit(X, **arguments)
    assert not hasattr(mixture, "means_")


def test_datasets_and_updates_are_told_as_well():
    mixture = equal_weights(GaussianMixture)(2)
    with pytest.raises(TypeError, match="do not accept a TensorDataset"):
        mixture.fit(TensorDataset(torch.from_numpy(X)))
    with pytest.raises(TypeError, match=r"overrides _m_step.*partial_fit"):
        mixture.partial_fit(X)


@pytest.mark.parametrize("question", ["predict", "predict_proba", "score_samples"])
def test_a_hook_of_the_fit_leaves_predictions_to_us(question, monkeypatch):
    """They do not call it: the fast way stays."""
    mixture = equal_weights(GaussianMixture)(2, random_state=0, batch_size=None).fit(X)
    mixture.batch_size = 7
    answer = getattr(mixture, question)(TensorDataset(torch.from_numpy(X)))
    np.testing.assert_allclose(answer, getattr(mixture, question)(X), rtol=1e-9, atol=1e-12)


def test_an_empty_subclass_is_fitted_by_us():
    class Empty(GaussianMixture):
        def unrelated(self):
            return 3

    mixture = Empty(2, random_state=0, batch_size=50).fit(X)
    np.testing.assert_allclose(mixture.means_, GaussianMixture(2, random_state=0).fit(X).means_)


class TestFitAndFitPredict:
    def test_a_fit_that_calls_fit_predict(self):
        class Counting(GaussianMixture):
            calls = 0

            def fit(self, X, y=None):
                self.calls += 1
                self.train_labels_ = self.fit_predict(X)
                return self

        mixture = Counting(2, random_state=0).fit(X)
        assert mixture.calls == 1
        np.testing.assert_array_equal(mixture.train_labels_, mixture.predict(X))

    @pytest.mark.parametrize("base", BASES)
    def test_a_fit_predict_that_sorts_is_what_fit_calls(self, base):
        class Ordered(base):
            def fit_predict(self, X, y=None):
                super().fit_predict(X)
                order = np.argsort(self.means_[:, 0])
                for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
                    setattr(self, name, getattr(self, name)[order])
                return self.predict(X)

        mixture = Ordered(3, random_state=0).fit(X)
        assert (np.diff(mixture.means_[:, 0]) > 0).all()
        np.testing.assert_array_equal(Ordered(3, random_state=0).fit_predict(X), mixture.predict(X))

    @pytest.mark.parametrize("base", BASES)
    def test_an_overridden_fit_is_not_called_by_fit_predict(self, base):
        class Loud(base):
            def fit(self, X, y=None):
                raise AssertionError("not called")

        assert Loud(2, random_state=0).fit_predict(X).shape == (150,)

    @pytest.mark.parametrize("base", BASES)
    def test_an_overridden_score_counts_in_the_criteria(self, base):
        class Shifted(base):
            def score(self, X, y=None):
                return super().score(X) + 1.0

            def _n_parameters(self):
                return 7

        mixture = Shifted(2, random_state=0).fit(X)
        plain = base(2, random_state=0).fit(X)
        assert mixture.aic(X) == pytest.approx(-2 * 150 * (plain.score(X) + 1.0) + 14)


def test_names_of_ours_do_not_stand_in_the_way():
    class Own(GaussianMixture):
        def __init__(self, n_components=1, *, random_state=None):
            super().__init__(n_components, random_state=random_state)
            self.model_ = "mine"
            self.save = True

    mixture = Own(2, random_state=0).fit(X)
    assert mixture.model_ == "mine"
    assert mixture.save is True
    assert mixture.predict(X).shape == (150,)


def merging(base):
    class Merging(base):
        def __init__(self, n_components=8, n_clusters=2, random_state=None):
            super().__init__(n_components=n_components, random_state=random_state)
            self.n_clusters = n_clusters

    return Merging


def with_helpers(base):
    class WithHelpers(base):
        n_clusters = 100

        def fit(self, data, y=None):
            self._progress = []
            return self._fit(data)

        def _fit(self, data):
            super().fit(data)
            self._log_weights = np.log(self.weights_)
            return self

        @property
        def labels_(self):
            return self.predict(X)

    return WithHelpers


def with_own_start(base):
    class Started(base):
        def __init__(self, n_components=3, random_state=None):
            theirs = sklearn.mixture.GaussianMixture(n_components, random_state=random_state)
            vars(self).update(theirs.get_params())

    return Started


@pytest.mark.parametrize("make", [merging, with_helpers, with_own_start])
def test_names_of_ours_are_free_for_a_subclass(make):
    theirs, ours = (make(base)(3).set_params(random_state=0) for base in BASES)
    np.testing.assert_allclose(ours.fit(X).means_, theirs.fit(X).means_, rtol=1e-7)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    assert clone(theirs).get_params().items() <= clone(ours).get_params().items()
    assert ours.n_components == 3


def test_a_number_of_clusters_of_its_own_is_kept():
    mixture = merging(GaussianMixture)(8, 3, random_state=0).fit(X)
    assert (mixture.n_components, mixture.n_clusters, len(mixture.means_)) == (8, 3, 8)
    assert mixture.set_params(n_clusters=4).n_components == 8


def test_a_loop_of_scikit_learns_leaves_nothing_of_an_earlier_fit():
    start = {"fixed": ("means",), "means_init": X[[0, 60, 120]]}
    mixture = GaussianMixture(3, random_state=0, **start).fit(X[::2])
    mixture.set_params(fixed=(), means_init=None)
    mixture._m_step = mixture._m_step
    theirs = sklearn.mixture.GaussianMixture(3, random_state=0).fit(X)
    assert mixture.fit(X).bic(X) == pytest.approx(theirs.bic(X))
    assert not {"labels_", "known_parts_", "n_samples_seen_"} & set(vars(mixture))


def test_a_warm_start_needs_no_covariances():
    def by_hand(base):
        mixture = base(2, warm_start=True)
        mixture.weights_, mixture.means_ = np.array([0.5, 0.5]), X[[0, 100]].copy()
        mixture.precisions_cholesky_ = np.stack([np.eye(4), 2 * np.eye(4)])
        mixture.converged_, mixture.lower_bound_ = True, -np.inf
        return mixture

    theirs, ours = (by_hand(base).fit(X) for base in BASES)
    assert ours.n_iter_ == theirs.n_iter_
    np.testing.assert_allclose(ours.covariances_, theirs.covariances_, rtol=1e-9)


class TestIsScikitLearns:
    def test_by_class(self):
        assert isinstance(GaussianMixture(), sklearn.mixture.GaussianMixture)
        assert not isinstance(TorchMixture(), sklearn.mixture.GaussianMixture)

    @pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
    def test_private_methods_that_programs_call(self, covariance_type):
        ours = GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(X)
        theirs = ours.to_sklearn()
        questions = {
            "_estimate_log_prob": (X,),
            "_estimate_weighted_log_prob": (X,),
            "_estimate_log_weights": (),
            "_estimate_log_prob_resp": (X,),
            "_get_parameters": (),
            "_n_parameters": (),
            "_e_step": (X,),
        }
        for name, arguments in questions.items():
            expected = getattr(theirs, name)(*arguments)
            found = getattr(ours, name)(*arguments)
            if not isinstance(expected, tuple):
                expected, found = (expected,), (found,)
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)

    def test_private_methods_that_change_a_mixture(self):
        ours, theirs = (base(3, random_state=0, max_iter=3).fit(X) for base in BASES)
        for mixture in (ours, theirs):
            _, log_resp = mixture._e_step(X)
            mixture._m_step(X, log_resp)
        for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-9)
        ours._set_parameters(theirs._get_parameters())
        np.testing.assert_array_equal(ours.precisions_cholesky_, theirs.precisions_cholesky_)
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-9)


def counted(calls):
    def _m_step(self, X, log_resp, **kwargs):
        calls.append(self)
        sklearn.mixture.GaussianMixture._m_step(self, X, log_resp, **kwargs)

    return _m_step


def test_a_hook_may_come_after_the_first_fit():
    class Late(GaussianMixture):
        pass

    Late(2, max_iter=2, random_state=0).fit(X)
    calls = []
    Late._m_step = counted(calls)
    Late(2, max_iter=2, random_state=0).fit(X)
    assert len(calls) == 2


def test_a_hook_of_one_instance_is_in_force():
    calls = []
    mixture = GaussianMixture(2, max_iter=2, random_state=0)
    mixture._m_step = counted(calls).__get__(mixture)
    mixture.fit(X)
    assert len(calls) == 2


def test_a_hook_that_a_test_puts_into_the_class_is_in_force(monkeypatch):
    calls = []
    monkeypatch.setattr(GaussianMixture, "_m_step", counted(calls), raising=False)
    GaussianMixture(2, max_iter=2, random_state=0).fit(X)
    assert len(calls) == 2
    monkeypatch.undo()
    GaussianMixture(2, max_iter=2, random_state=0).fit(X)
    assert len(calls) == 2


def test_a_hook_that_fails_leaves_the_mixture_as_it_was():
    mixture = GaussianMixture.from_parameters([1.0], [[0.0]], [[[1.0]]], fixed=("weights", "means"))
    before, bic = dict(vars(mixture)), mixture.bic([[0.0], [2.0]])

    def fail(self, X, log_resp, **kwargs):
        self.weights_ = None
        raise KeyError

    mixture.set_params(fixed=())
    mixture._m_step = fail.__get__(mixture)
    with pytest.raises(KeyError):
        mixture.fit([[0.0], [2.0]])
    del mixture._m_step
    assert vars(mixture) == {**before, "fixed": ()}
    assert mixture.bic([[0.0], [2.0]]) == bic


def test_labels_that_a_subclass_names_are_neither_predicted_nor_saved(tmp_path):
    class Named(GaussianMixture):
        @property
        def labels_(self):
            return np.array(["a", "b"])[self.train_numbers_]

        def fit(self, X, y=None):
            super().fit(X)
            self.train_numbers_ = self.predict(X)
            return self

    mixture = Named(2, random_state=0)
    numbers = mixture.fit_predict(X)
    assert numbers.dtype == np.int64
    mixture.fit(X)
    np.testing.assert_array_equal(mixture.labels_, np.array(["a", "b"])[numbers])
    mixture.save(tmp_path)
    np.testing.assert_array_equal(Named.load(tmp_path).predict(X), numbers)
