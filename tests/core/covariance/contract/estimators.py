"""What the estimators do with a structure: fits, samples, plots, conversions, model selection."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy.stats import chi2

from sklearn_torch_gmm import GaussianMixtureIC, MixtureDisplay
from sklearn_torch_gmm.core.covariance import SCIKIT_LEARN_TYPES
from sklearn_torch_gmm.core.fixed import num_free_parameters
from sklearn_torch_gmm.core.model import GaussianMixtureModel
from tests.core import oracle
from tests.core.covariance.contract.builders import ROUNDING, Builders
from tests.core.oracle import Mixture
from tests.core.steps import as_parameters, mixture_of
from tests.estimators import MIXTURE_CLASSES, DropIn, assert_same_mixture, fitted_mixture, make

COMPONENTS, FEATURES = 3, 3

MEANS = np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 1.0], [0.0, 3.0, -1.0]])

REGULARIZATION = 0.01

STANDARD_ERRORS = 5.5
"""How far a sample moment may be off: once in 25 million by chance."""

PARAMETERS = ("weights_", "means_", "covariances_", "precisions_cholesky_")

each_class = pytest.mark.parametrize("cls", MIXTURE_CLASSES, ids=["documented", "drop-in"])


def at_means(X: np.ndarray, num_components: int, random_state: Any) -> np.ndarray:
    return MEANS


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
class EstimatorContract(Builders):
    @pytest.fixture
    def dense_mixture(self, registered, rng) -> Mixture:
        return mixture_of(rng, self.name, COMPONENTS, FEATURES)

    @pytest.fixture
    def X(self, rng) -> np.ndarray:
        """Rows of components that overlap, about other means than a fit starts from."""
        scales = np.array([[1.0, 0.6, 0.8], [0.7, 1.2, 0.9], [1.0, 1.0, 1.4]])
        labels = rng.integers(3, size=120)
        return MEANS[labels] + 0.5 + scales[labels] * rng.standard_normal((120, FEATURES))

    def known(self, cls: type, mixture: Mixture, **params: Any) -> Any:
        covariances = as_parameters(self.name, mixture).covariances[0].numpy()
        return cls.from_parameters(
            mixture.weights, mixture.means, covariances, covariance_type=self.name, **params
        )

    # -- fits -------------------------------------------------------------------------------------

    @pytest.mark.parametrize("start", ["kmeans", "k-means++", "random", "random_from_data"])
    def test_fit_from_each_start_stays_in_the_family(self, X, start):
        mixture = DropIn(3, covariance_type=self.name, init_params=start, random_state=0).fit(X)
        assert np.isfinite(mixture.lower_bounds_).all()
        assert mixture.weights_.sum() == pytest.approx(1.0)
        projected = self.project(fitted_mixture(mixture).matrices, mixture.weights_)
        np.testing.assert_allclose(mixture.covariances_, projected, **ROUNDING)

    @each_class
    @pytest.mark.parametrize("fixed", [(), ("weights",), ("means",), ("covariances",)], ids=str)
    def test_iterations_of_a_fit_by_loops(self, X, rng, cls, fixed):
        weights = rng.uniform(0.5, 2.0, size=len(X))
        options = {
            "covariance_type": self.name,
            "start": at_means,
            "regularization": REGULARIZATION,
            "tolerance": 0.0,
        }
        start = make(cls, 3, iterations=0, **options).fit(X, sample_weight=weights)
        expected, bounds = fitted_mixture(start), []
        for _ in range(3):
            bounds.append(np.average(oracle.log_densities(expected, X), weights=weights))
            sums = oracle.weighted_sums(X, oracle.responsibilities(expected, X), weights)
            expected = oracle.beside_fixed(self.name, expected, sums, fixed, REGULARIZATION)
        mixture = make(cls, 3, iterations=3, fixed=fixed, batch_size=50, **options)
        mixture.fit(X, sample_weight=weights)
        assert_same_mixture(mixture, expected)
        np.testing.assert_allclose(mixture.lower_bounds_, bounds, rtol=1e-9)
        for part in fixed:
            np.testing.assert_array_equal(getattr(mixture, f"{part}_"), getattr(start, f"{part}_"))

    @pytest.mark.parametrize("fixed", [(), ("means",)], ids=str)
    def test_updates_by_loops(self, X, dense_mixture, fixed):
        mixture, expected = self.known(DropIn, dense_mixture, fixed=fixed), dense_mixture
        for rows, step in ((X[:70], 1.0), (X[70:], (50 / 120) ** 0.7)):
            ones = np.ones(len(rows))
            expected = oracle.moved(self.name, expected, rows, ones, step, 1e-6, fixed)
            assert_same_mixture(mixture.partial_fit(rows), expected, 1e-8)

    # -- samples ----------------------------------------------------------------------------------

    @pytest.mark.parametrize("source", ["estimator", "module"])
    def test_samples_of_each_component_have_its_moments(self, dense_mixture, source, generator):
        for component in range(COMPONENTS):
            # The component itself, among others that are never drawn.
            weights = np.eye(COMPONENTS)[component]
            estimator = self.known(DropIn, dense_mixture._replace(weights=weights), random_state=0)
            if source == "estimator":
                rows, labels = estimator.sample(5000)
                assert (labels == component).all()
            else:
                rows = estimator.model_.sample(5000, generator=generator).numpy()
            centred = rows - dense_mixture.means[component]
            products = centred[:, :, None] * centred[:, None, :]
            for actual, expected in (
                (centred, 0.0),
                (products, dense_mixture.matrices[component]),
            ):
                standard_error = actual.std(0) / np.sqrt(len(actual))
                error = np.abs(actual.mean(0) - expected)
                assert (error < STANDARD_ERRORS * standard_error).all()

    # -- plots ------------------------------------------------------------------------------------

    def test_ellipses_are_those_of_the_marginal_distributions(self, X, dense_mixture):
        features, level = (2, 0), 0.8
        display = MixtureDisplay.from_estimator(
            self.known(DropIn, dense_mixture),
            X,
            features=features,
            ax=Figure().subplots(),
            levels=[level],
            density=True,
            grid_resolution=5,
        )
        circle = [[np.cos(t), np.sin(t)] for t in np.linspace(0, 6, 20)]
        assert len(display.ellipses_) == COMPONENTS
        for component, (ellipse,) in enumerate(display.ellipses_):
            outline = ellipse.get_patch_transform().transform(circle)
            away = outline - dense_mixture.means[component, list(features)]
            inverse = np.linalg.inv(dense_mixture.matrices[component][np.ix_(features, features)])
            squared = np.einsum("ni,ij,nj->n", away, inverse, away)
            np.testing.assert_allclose(squared, chi2(2).ppf(level), rtol=1e-9)

    # -- conversions, saving and loading ----------------------------------------------------------

    @each_class
    def test_known_parameters_predict(self, X, dense_mixture, cls):
        estimator = self.known(cls, dense_mixture)
        assert_same_mixture(estimator, dense_mixture)
        log_densities = oracle.log_densities(dense_mixture, X)
        np.testing.assert_allclose(estimator.score_samples(X), log_densities, **ROUNDING)
        shares = oracle.responsibilities(dense_mixture, X).T
        np.testing.assert_allclose(estimator.predict_proba(X), shares, **ROUNDING)

    @each_class
    def test_covariances_that_are_not_positive_definite_are_refused(self, dense_mixture, cls):
        covariances = as_parameters(self.name, dense_mixture).covariances[0].numpy()
        arguments = dense_mixture.weights, dense_mixture.means, -covariances
        with pytest.raises(ValueError, match="'covariances' should be"):
            cls.from_parameters(*arguments, covariance_type=self.name)

    @each_class
    def test_scikit_learn_gets_the_structures_that_it_has(self, X, dense_mixture, cls):
        estimator = self.known(cls, dense_mixture)
        if self.name not in SCIKIT_LEARN_TYPES:
            message = f"scikit-learn has no covariance_type='{self.name}'"
            with pytest.raises(ValueError, match=message):
                estimator.to_sklearn()
            return
        theirs = estimator.to_sklearn()
        np.testing.assert_allclose(theirs.score_samples(X), estimator.score_samples(X), **ROUNDING)
        back = cls.from_sklearn(theirs)
        np.testing.assert_array_equal(back.covariances_, estimator.covariances_)

    @each_class
    def test_saved_and_pickled_estimators_are_the_same(self, dense_mixture, cls, tmp_path):
        estimator = self.known(cls, dense_mixture)
        estimator.save(tmp_path / "mixture")
        for copy in (
            cls.load(tmp_path / "mixture"),
            pickle.loads(pickle.dumps(estimator)),
        ):
            assert copy.covariance_type == self.name
            for name in PARAMETERS:
                np.testing.assert_array_equal(getattr(copy, name), getattr(estimator, name))

    def test_saved_modules_are_the_same(self, X, dense_mixture, tmp_path):
        module = self.known(DropIn, dense_mixture).model_
        module.save(tmp_path / "module.safetensors")
        loaded = GaussianMixtureModel.load(tmp_path / "module.safetensors")
        rows = torch.from_numpy(X)
        assert torch.equal(loaded(rows)[1], module(rows)[1])

    # -- model selection --------------------------------------------------------------------------

    def test_model_selection_counts_its_parameters(self, structure, X):
        search = GaussianMixtureIC(1, 3, covariance_type=[self.name], random_state=0).fit(X)
        assert search.covariance_type_ == self.name
        counts = [num_free_parameters(structure, components, FEATURES) for components in (1, 2, 3)]
        assert sorted(set(search.results_["n_parameters"].tolist())) == counts
        assert min(search.results_["bic"]) == pytest.approx(search.bic(X), rel=1e-9)
        alone = DropIn(search.n_components_, covariance_type=self.name, random_state=0)
        assert alone.fit(X).bic(X) == pytest.approx(search.bic(X), rel=1e-3)
