"""Tools of other projects. A test is left out where its tool is not installed."""

import functools

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.mixture import GaussianMixture as Theirs

from sklearn_torch_gmm import GaussianMixture, GaussianMixtureIC
from sklearn_torch_gmm.mixture import GaussianMixture as DropIn


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(c, 1, size=(60, 2)) for c in (0, 6)])


class TestRecorders:
    """MLflow's autolog wraps `fit` of scikit-learn's classes, and records each call as a run."""

    @pytest.fixture
    def recorded(self, monkeypatch):
        recorded = []

        def recording(original):
            @functools.wraps(original)
            def fit(self, *args, **kwargs):
                recorded.append(type(self).__name__)
                return original(self, *args, **kwargs)

            return fit

        for each in (KMeans, Theirs):
            monkeypatch.setattr(each, "fit", recording(each.fit))
        return recorded

    @pytest.mark.parametrize(
        "mixture",
        [
            GaussianMixture(2, random_state=0),
            GaussianMixture(2, num_init=3, random_state=0),
            DropIn(2, random_state=0),
            DropIn(2, n_init=3, random_state=0),
            GaussianMixtureIC(1, 2, n_init=2, random_state=0),
        ],
        ids=lambda mixture: type(mixture).__module__,
    )
    def test_the_start_is_no_model_of_its_own(self, recorded, X, mixture):
        expected = mixture.fit(X).predict(X)
        assert recorded == []
        np.testing.assert_array_equal(mixture.fit_predict(X), expected)
        assert recorded == []

    def test_what_the_user_fits_is_recorded(self, recorded, X):
        KMeans(2).fit(X)
        assert recorded == ["KMeans"]

    def test_mlflow(self, X, tmp_path):
        mlflow = pytest.importorskip("mlflow")
        mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
        mlflow.set_experiment("mixtures")
        mlflow.sklearn.autolog(log_models=False, log_input_examples=False, silent=True)
        try:
            for mixture in (GaussianMixture(2), DropIn(2), GaussianMixtureIC(1, 2)):
                mixture.fit(X)
            assert mlflow.search_runs(output_format="list") == []
        finally:
            mlflow.sklearn.autolog(disable=True)


@pytest.mark.skipif(sklearn.__version__.startswith("1.7."), reason="1.7 draws no clusterer")
class TestDecisionBoundaries:
    """scikit-learn draws two columns of probabilities for no clusterer, its own included."""

    @pytest.mark.parametrize("components", [2, 3])
    @pytest.mark.parametrize("cls", [GaussianMixture, DropIn])
    def test_labels_and_densities(self, cls, components, X):
        pytest.importorskip("matplotlib")
        mixture = cls(components, random_state=0).fit(X)
        for method in ("predict", "score_samples"):
            display = DecisionBoundaryDisplay.from_estimator(mixture, X, response_method=method)
            grid = np.column_stack([display.xx0.ravel(), display.xx1.ravel()])
            expected = getattr(mixture, method)(grid).reshape(display.xx0.shape)
            np.testing.assert_allclose(display.response, expected)

    def test_probabilities_of_three(self, X):
        pytest.importorskip("matplotlib")
        mixture = DropIn(3, random_state=0).fit(X)
        display = DecisionBoundaryDisplay.from_estimator(mixture, X)
        assert display.response.shape[-1] == 3


class Components(DropIn):
    """With a parameter of the name that tools for clusterers look for in `get_params`."""

    def __init__(self, n_clusters=8, random_state=None):
        super().__init__(n_clusters, random_state=random_state)


class TestClusterCentres:
    @pytest.mark.parametrize("cls", [GaussianMixture, DropIn])
    def test_are_the_means(self, cls, X):
        mixture = cls(2, random_state=0)
        with pytest.raises(NotFittedError):
            mixture.cluster_centers_  # noqa: B018
        assert not hasattr(mixture, "cluster_centers_")
        assert mixture.fit(X).cluster_centers_ is mixture.means_
        assert "cluster_centers_" not in mixture.persistent_attributes

    def test_a_subclass_may_set_its_own(self, X):
        class Rounded(DropIn):
            def fit(self, X, y=None):
                super().fit(X)
                self.cluster_centers_ = self.means_.round()
                return self

        mixture = Rounded(2, random_state=0).fit(X)
        np.testing.assert_array_equal(mixture.cluster_centers_, mixture.means_.round())

    def test_a_subclass_with_the_parameter_that_samplers_ask_for(self, X):
        mixture = clone(Components(3, random_state=0).set_params(n_clusters=2))
        assert mixture.get_params() == {"n_clusters": 2, "random_state": 0}
        assert mixture.fit(X).cluster_centers_.shape == (2, 2)

    def test_samplers_of_imbalanced_learn(self, X):
        sampling = pytest.importorskip("imblearn.under_sampling")
        y = np.repeat([0, 1], [105, 15])
        resampled, labels = sampling.ClusterCentroids(
            estimator=Components(random_state=0), voting="soft"
        ).fit_resample(X, y)
        assert np.bincount(labels).tolist() == [15, 15]
        expected = DropIn(15, random_state=0).fit(X[y == 0]).means_
        np.testing.assert_allclose(resampled[labels == 0], expected)


def test_fisher_vectors_of_scikit_image():
    feature = pytest.importorskip("skimage.feature")
    rng = np.random.default_rng(0)
    training, descriptors = rng.normal(size=(300, 4)), rng.normal(size=(20, 4))
    theirs, ours = (
        feature.fisher_vector(
            descriptors, Mixture(3, covariance_type="diag", random_state=0).fit(training)
        )
        for Mixture in (Theirs, DropIn)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9)


def test_frames_of_polars(X):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(X, schema=["a", "b"])
    mixture = GaussianMixture(2, random_state=0).fit(frame)
    assert mixture.feature_names_in_.tolist() == ["a", "b"]
    np.testing.assert_array_equal(mixture.predict(frame), mixture.labels_)
    with pytest.raises(TypeError, match=r"A LazyFrame is a query.* pass X\.collect\(\)"):
        mixture.fit(frame.lazy())


def test_a_study_of_optuna(X):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial):
        components = trial.suggest_int("num_components", 1, 4)
        kind = trial.suggest_categorical("covariance_type", ["full", "spherical"])
        return GaussianMixture(components, covariance_type=kind, random_state=0).fit(X).bic(X)

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=12)
    assert study.best_params == {"num_components": 2, "covariance_type": "spherical"}


def test_explanations_of_shap(X):
    shap = pytest.importorskip("shap")
    theirs, ours = (
        shap.KernelExplainer(
            Mixture(2, random_state=0).fit(X).predict_proba, X[::30], seed=0
        ).shap_values(X[:3], silent=True)
        for Mixture in (Theirs, DropIn)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_pictures_of_yellowbrick(X):
    cluster = pytest.importorskip("yellowbrick.cluster")
    # It knows no clusterer of this scikit-learn, its own included, unless it is told.
    visualizer = cluster.KElbowVisualizer(
        GaussianMixture(random_state=0), k=(2, 5), metric="silhouette", force_model=True
    ).fit(X)
    assert visualizer.elbow_value_ == 2
    distances = cluster.InterclusterDistance(DropIn(3, random_state=0), force_model=True).fit(X)
    np.testing.assert_array_equal(distances.cluster_centers_, distances.estimator.means_)
