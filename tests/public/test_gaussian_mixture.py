"""The class for users of torch and Lightning."""

import copy
import inspect
import pickle
import subprocess
import sys
import textwrap

import joblib
import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_torch_gmm import GaussianMixture, GaussianMixtureModel
from sklearn_torch_gmm.exceptions import EmptyComponentWarning
from tests.estimators import expected_failed_checks

TYPES = ["full", "tied", "diag", "spherical"]


@pytest.fixture
def X():
    X, _ = make_blobs([40, 30, 30], 2, centers=[[0, 0], [6, 0], [0, 6]], random_state=0)
    return X


@parametrize_with_checks(
    [
        GaussianMixture(),
        *(GaussianMixture(k, covariance_type=name) for name in TYPES for k in (1, 2)),
        GaussianMixture(batch_size=7),
        GaussianMixture(2, init_strategy="kmeans++"),
    ],
    expected_failed_checks=expected_failed_checks,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_the_documented_parameters_come_first_and_in_order():
    documented = {
        "num_components": 1,
        "covariance_type": "diag",
        "init_strategy": "kmeans",
        "init_means": None,
        "convergence_tolerance": 0.001,
        "covariance_regularization": 1e-06,
        "batch_size": None,
        "trainer_params": None,
    }
    parameters = inspect.signature(GaussianMixture).parameters
    assert {name: p.default for name, p in list(parameters.items())[:8]} == documented
    assert list(parameters)[:8] == list(documented)


class TestFit:
    @pytest.mark.parametrize("covariance_type", TYPES)
    def test_one_component_is_the_sample_mean_and_covariance(self, X, covariance_type):
        mixture = GaussianMixture(covariance_type=covariance_type, covariance_regularization=0.5)
        mixture.fit(X)
        matrix = np.cov(X.T, bias=True) + 0.5 * np.eye(2)
        expected = {
            "full": matrix[None],
            "tied": matrix,
            "diag": np.diag(matrix)[None],
            "spherical": np.diag(matrix).mean(keepdims=True),
        }[covariance_type]
        np.testing.assert_allclose(mixture.means_, X.mean(0, keepdims=True), rtol=1e-12)
        np.testing.assert_allclose(mixture.covariances_, expected, rtol=1e-12)

    def test_regularization_is_added_once_whatever_the_number_of_features(self):
        mixture = GaussianMixture(covariance_type="spherical", covariance_regularization=0.1)
        mixture.fit(np.zeros((50, 8)))
        np.testing.assert_allclose(mixture.covariances_, [0.1])

    def test_clusters_are_found(self, X):
        mixture = GaussianMixture(3, random_state=0).fit(X)
        order = np.lexsort(mixture.means_.round().T)
        np.testing.assert_allclose(mixture.weights_[order], [0.4, 0.3, 0.3], atol=0.02)
        assert mixture.converged_
        assert mixture.num_iter_ == mixture.n_iter_ == len(mixture.lower_bounds_)
        assert mixture.nll_ == -mixture.lower_bound_ == -mixture.lower_bounds_[-1]

    def test_max_epochs_is_the_number_of_iterations(self, X):
        mixture = GaussianMixture(
            3, convergence_tolerance=0, random_state=0, trainer_params={"max_epochs": 4}
        )
        with pytest.warns(ConvergenceWarning, match="Increase max_epochs"):
            mixture.fit(X)
        assert mixture.num_iter_ == 4
        assert not mixture.converged_

    @pytest.mark.parametrize("batch_size", [None, 50])
    def test_without_a_number_max_epochs_is_the_trainers_own(self, X, batch_size):
        mixture = GaussianMixture(
            3,
            convergence_tolerance=0,
            batch_size=batch_size,
            trainer_params={"max_epochs": None},
            random_state=0,
        )
        with pytest.warns(ConvergenceWarning):
            mixture.fit(X)
        # As Lightning documents it.
        assert mixture.num_iter_ == 1000

    def test_no_epochs_leave_the_start(self, X):
        means = X[:2]
        mixture = GaussianMixture(2, init_means=means, trainer_params={"max_epochs": 0}).fit(X)
        np.testing.assert_allclose(mixture.means_, means)
        assert mixture.num_iter_ == 0

    def test_init_means_replace_the_strategy(self, X):
        mixture = GaussianMixture(3, init_means=[[0, 6], [0, 0], [6, 0]]).fit(X)
        np.testing.assert_allclose(mixture.means_, [[0, 6], [0, 0], [6, 0]], atol=1.0)

    def test_more_starts_are_at_least_as_good(self, X):
        one, many = (
            GaussianMixture(3, init_strategy="random", num_init=n, random_state=1).fit(X)
            for n in (1, 6)
        )
        assert many.lower_bound_ >= one.lower_bound_

    def test_a_component_without_rows_is_reported_and_harmless(self, X):
        means = [[0, 0], [6, 0], [0, 6], [1e3, 1e3]]
        mixture = GaussianMixture(4, init_means=means)
        with pytest.warns(EmptyComponentWarning, match=r"Components \[3\] lost all their samples"):
            mixture.fit(X)
        np.testing.assert_allclose(mixture.means_[3], [1e3, 1e3])
        without = GaussianMixture(3, init_means=means[:3]).fit(X)
        np.testing.assert_allclose(mixture.means_[:3], without.means_, rtol=1e-12)
        np.testing.assert_array_equal(mixture.predict(X), without.predict(X))


class TestInputs:
    @pytest.mark.parametrize(
        "convert",
        [
            np.asfortranarray,
            lambda X: X.tolist(),
            lambda X: pd.DataFrame(X, columns=["a", "b"]),
            lambda X: X[::-1][::-1],
            lambda X: X.astype(">f8"),
            torch.tensor,
            lambda X: torch.tensor(X, requires_grad=True),
        ],
    )
    def test_every_kind_gives_the_same_fit(self, X, convert):
        expected = GaussianMixture(3, random_state=0).fit(X)
        mixture = GaussianMixture(3, random_state=0).fit(convert(X))
        np.testing.assert_allclose(mixture.means_, expected.means_, rtol=1e-12)
        np.testing.assert_array_equal(mixture.predict(convert(X)), expected.predict(X))

    def test_one_row_of_a_reversed_array(self, X):
        mixture = GaussianMixture(3, random_state=0).fit(X)
        row = X[:1][::-1]
        # To NumPy one row is in one piece, and still its stride is negative.
        assert row.flags.c_contiguous
        assert row.strides[0] < 0
        np.testing.assert_array_equal(mixture.score_samples(row), mixture.score_samples(X[:1]))

    @pytest.mark.parametrize("batch_size", [None, 9])
    def test_read_only_memory_maps(self, X, tmp_path, batch_size):
        np.save(tmp_path / "X.npy", X)
        memmap = np.load(tmp_path / "X.npy", mmap_mode="r")
        mixture = GaussianMixture(3, random_state=0, batch_size=batch_size).fit(memmap)
        np.testing.assert_allclose(
            mixture.means_, GaussianMixture(3, random_state=0).fit(X).means_, rtol=1e-12
        )
        assert isinstance(mixture.score_samples(memmap), np.ndarray)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_the_type_of_numbers_comes_back(self, X, dtype):
        X = X.astype(dtype)
        mixture = GaussianMixture(3, random_state=0).fit(X)
        for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
            assert getattr(mixture, name).dtype == dtype
        assert mixture.score_samples(X).dtype == dtype
        assert mixture.predict_proba(X).dtype == dtype
        assert mixture.predict(X).dtype == np.int64

    @pytest.mark.parametrize("covariance_type", TYPES)
    def test_parameters_lie_row_by_row(self, X, covariance_type):
        """As scikit-learn's, for programs that read their memory."""
        mixture = GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(X)
        for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
            assert getattr(mixture, name).flags.c_contiguous

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_tensors_get_tensors(self, X, dtype):
        tensor = torch.tensor(X, dtype=dtype)
        mixture = GaussianMixture(3, random_state=0).fit(tensor)
        # What is kept in the estimator must load where the tensor's device is missing.
        assert isinstance(mixture.labels_, np.ndarray)
        assert isinstance(mixture.means_, np.ndarray)
        assert isinstance(mixture.fit_predict(tensor), torch.Tensor)
        for method, expected in [
            ("predict", torch.int64),
            ("predict_proba", dtype),
            ("score_samples", dtype),
        ]:
            result = getattr(mixture, method)(tensor)
            assert isinstance(result, torch.Tensor)
            assert result.dtype == expected
            np.testing.assert_array_equal(result, getattr(mixture, method)(tensor.numpy()))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
    def test_tensors_of_other_numbers(self, X, dtype):
        tensor = torch.tensor(X).to(dtype)
        mixture = GaussianMixture(3, random_state=0).fit(tensor)
        assert np.isfinite(mixture.means_).all()

    def test_float32_far_from_the_origin(self):
        X = np.random.default_rng(0).normal(loc=1e4, size=(500, 3)).astype(np.float32)
        for covariance_type in TYPES:
            mixture = GaussianMixture(covariance_type=covariance_type).fit(X)
            structure = mixture.model_.structure
            variances = structure.variances(torch.tensor(mixture.covariances_), 1, 3)
            # The data themselves are stored to 1e-3.
            np.testing.assert_allclose(variances.mean(), X.astype(float).var(0).mean(), rtol=1e-3)


class TestPrediction:
    @pytest.mark.parametrize("covariance_type", TYPES)
    def test_densities_and_responsibilities(self, X, covariance_type):
        mixture = GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(X)
        matrices = mixture.model_.structure.matrices(torch.tensor(mixture.covariances_), 3, 2)
        joint = np.stack(
            [
                weight * multivariate_normal(mean, matrix).pdf(X)
                for weight, mean, matrix in zip(
                    mixture.weights_, mixture.means_, matrices, strict=True
                )
            ],
            axis=1,
        )
        np.testing.assert_allclose(mixture.score_samples(X), np.log(joint.sum(1)), rtol=1e-10)
        np.testing.assert_allclose(
            mixture.predict_proba(X), joint / joint.sum(1, keepdims=True), rtol=1e-8, atol=1e-15
        )
        np.testing.assert_array_equal(mixture.predict(X), joint.argmax(1))
        assert mixture.score(X) == pytest.approx(np.log(joint.sum(1)).mean())

    def test_labels_are_those_of_predict(self, X):
        mixture = GaussianMixture(3, random_state=0)
        labels = mixture.fit_predict(X)
        np.testing.assert_array_equal(labels, mixture.labels_)
        np.testing.assert_array_equal(labels, mixture.predict(X))

    def test_criteria(self, X):
        mixture = GaussianMixture(2, covariance_type="full", random_state=0).fit(X)
        free = 1 + 2 * 2 + 2 * 3
        total = mixture.score_samples(X).sum()
        assert mixture.bic(X) == pytest.approx(-2 * total + free * np.log(len(X)))
        assert mixture.aic(X) == pytest.approx(-2 * total + 2 * free)

    def test_samples_have_the_moments_of_the_mixture(self, X):
        mixture = GaussianMixture(3, covariance_type="full", random_state=0).fit(X)
        rows = mixture.sample(20_000)
        assert rows.shape == (20_000, 2)
        # Five standard errors of a mean of this many rows with a spread of about three.
        np.testing.assert_allclose(rows.mean(0), X.mean(0), atol=5 * 3 / 20_000**0.5)
        np.testing.assert_allclose(np.cov(rows.T), np.cov(X.T, bias=True), rtol=0.1, atol=0.2)

    def test_the_model_is_a_module_that_gives_the_same(self, X):
        mixture = GaussianMixture(3, random_state=0).fit(X)
        assert isinstance(mixture.model_, GaussianMixtureModel)
        log_responsibilities, log_prob = mixture.model_(torch.tensor(X))
        np.testing.assert_allclose(log_prob, mixture.score_samples(X), rtol=1e-12)
        np.testing.assert_allclose(
            log_responsibilities.exp(), mixture.predict_proba(X), rtol=1e-12, atol=1e-300
        )


class TestUseBesideScikitLearn:
    @pytest.mark.parametrize("backend", ["loky", "threading"])
    def test_grid_search_finds_the_number_of_blobs(self, backend):
        X, _ = make_blobs(200, centers=[[0, 0], [8, 0], [0, 8], [8, 8]], random_state=0)
        search = GridSearchCV(
            GaussianMixture(random_state=0),
            {"num_components": [1, 2, 3, 4]},
            n_jobs=2,
            cv=3,
        )
        with joblib.parallel_config(backend):
            search.fit(X)
        assert search.best_params_ == {"num_components": 4}

    def test_pipeline(self, X):
        pipeline = make_pipeline(StandardScaler(), GaussianMixture(3, random_state=0))
        labels = pipeline.fit_predict(X)
        np.testing.assert_array_equal(labels, pipeline.predict(X))
        assert np.isfinite(pipeline.score(X))

    def test_clone_and_parameters(self, X):
        mixture = GaussianMixture(3, trainer_params={"max_epochs": 7}, num_init=2)
        assert clone(mixture).get_params() == mixture.clone().get_params() == mixture.get_params()
        mixture.fit(X)
        assert not hasattr(clone(mixture), "means_")
        assert mixture.trainer_params == {"max_epochs": 7}

    def test_the_number_of_clusters_is_the_number_of_components(self):
        mixture = GaussianMixture().set_params(n_clusters=4)
        assert mixture.num_components == mixture.n_clusters == 4
        assert "n_clusters" not in mixture.get_params()

    @pytest.mark.parametrize(
        "copied",
        [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy],
        ids=["pickle", "deepcopy"],
    )
    def test_copies_predict_the_same(self, X, copied):
        mixture = GaussianMixture(3, random_state=0).fit(X)
        np.testing.assert_array_equal(copied(mixture).predict_proba(X), mixture.predict_proba(X))

    def test_unpickling_and_predicting_do_not_import_lightning(self, X, tmp_path):
        joblib.dump(GaussianMixture(3, random_state=0).fit(X), tmp_path / "mixture.joblib")
        program = textwrap.dedent(
            f"""
            import sys, joblib
            mixture = joblib.load({str(tmp_path / "mixture.joblib")!r})
            mixture.predict([[0.0, 0.0]]), mixture.sample(3), mixture.model_
            assert "pytorch_lightning" not in sys.modules
            """
        )
        subprocess.run([sys.executable, "-c", program], check=True, timeout=120)

    def test_feature_names(self, X):
        frame = pd.DataFrame(X, columns=["a", "b"])
        mixture = GaussianMixture(2, random_state=0).fit(frame)
        assert mixture.feature_names_in_.tolist() == ["a", "b"]
        with pytest.raises(ValueError, match="feature names should match"):
            mixture.predict(frame[["b", "a"]])


def test_the_trainer_is_the_one_of_the_fit():
    mixture = GaussianMixture(trainer_params={"max_epochs": 7})
    assert isinstance(mixture.trainer(), pl.Trainer)
    assert mixture.trainer().max_epochs == 7
    assert mixture.trainer(max_epochs=9).max_epochs == 9
    with pytest.raises(TypeError, match="no_such_thing"):
        mixture.trainer(no_such_thing=1)


class TestBadInput:
    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"num_components": 0}, "'num_components' parameter .* must be an int in the range"),
            ({"num_components": 2.5}, "'num_components' parameter"),
            ({"covariance_type": "round"}, "'covariance_type' parameter .* must be a str among"),
            ({"init_strategy": "k-means"}, "'init_strategy' parameter"),
            ({"convergence_tolerance": -1}, "'convergence_tolerance' parameter"),
            ({"covariance_regularization": -1e-9}, "'covariance_regularization' parameter"),
            ({"batch_size": 0}, "'batch_size' parameter"),
            ({"num_workers": -1}, "'num_workers' parameter"),
            ({"num_init": 0}, "'num_init' parameter"),
            ({"trainer_params": [1]}, "'trainer_params' parameter"),
            ({"random_state": "seed"}, "'random_state' parameter"),
            ({"init_means": [[0.0, 0.0]], "num_components": 2}, r"= \(2, 2\), got \(1, 2\)"),
            ({"init_means": [[0.0, np.nan]]}, "init_means contains NaN"),
            ({"num_components": 101}, "num_components = 101, n_samples = 100"),
            ({"trainer_params": {"precision": "16-mixed"}}, "precision must be '64-true'"),
            ({"trainer_params": {"max_epoch": 3}}, "'max_epoch', which"),
        ],
    )
    def test_parameters(self, X, params, message):
        mixture = GaussianMixture(**params)
        with pytest.raises((ValueError, TypeError), match=message):
            mixture.fit(X)
        mixture.set_params(**GaussianMixture().get_params()).fit(X)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ([[0.0, np.nan], [1.0, 1.0]], "NaN"),
            ([[0.0, np.inf], [1.0, 1.0]], "infinity"),
            ([["a", "b"], ["c", "d"]], "could not convert string"),
            (np.zeros(5), "Expected 2D array"),
            (np.zeros((2, 2, 2)), "dim 3"),
            (np.zeros((0, 2)), "0 sample"),
            (np.zeros((5, 0)), "0 feature"),
            (np.zeros((5, 2), dtype=complex), "Complex data"),
            (torch.tensor([[0.0, float("nan")], [1.0, 1.0]]), "NaN"),
            (torch.zeros(5), "Expected 2D array"),
            (torch.zeros(5, 2, dtype=torch.complex64), "Complex data"),
        ],
    )
    def test_data(self, X, data, message):
        mixture = GaussianMixture()
        with pytest.raises(ValueError, match=message):
            mixture.fit(data)
        fitted = mixture.fit(X)
        with pytest.raises(ValueError, match=message):
            fitted.predict(data)

    @pytest.mark.parametrize("convert", [np.asarray, torch.tensor])
    def test_another_number_of_features(self, X, convert):
        mixture = GaussianMixture().fit(convert(X))
        with pytest.raises(ValueError, match=r"X has 1 features, but .* is expecting 2"):
            mixture.score_samples(convert(X[:, :1]))

    @pytest.mark.parametrize(
        "method", ["predict", "predict_proba", "score", "score_samples", "bic", "aic"]
    )
    def test_unfitted(self, X, method):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            getattr(GaussianMixture(), method)(X)

    def test_unfitted_attributes(self):
        mixture = GaussianMixture()
        for name in ("model_", "nll_", "num_iter_", "means_"):
            assert not hasattr(mixture, name)
        with pytest.raises(NotFittedError):
            mixture.sample()

    def test_too_few_samples_asked(self, X):
        with pytest.raises(
            ValueError, match="num_datapoints must be an integer of at least 1, got 0"
        ):
            GaussianMixture().fit(X).sample(0)
