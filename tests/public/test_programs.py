"""Programs written for scikit-learn's class, of each kind that is in use: same import, same answer.

Each program takes the class and returns what it would show or decide.
"""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture as Theirs
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_torch_gmm import GaussianMixture as TorchMixture
from sklearn_torch_gmm.mixture import GaussianMixture as Ours


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def split_of_losses(Mixture, rng):
    """Samples with noisy labels: those whose training loss is of the lower of two components."""
    losses = np.concatenate([rng.normal(0.3, 0.08, 170), rng.normal(2.1, 0.5, 60)])
    losses = torch.from_numpy(losses).float()
    losses = ((losses - losses.min()) / (losses.max() - losses.min())).reshape(-1, 1)
    mixture = Mixture(n_components=2, max_iter=15, tol=1e-3, reg_covar=1e-4, random_state=0)
    mixture.fit(losses)
    clean = mixture.predict_proba(losses)[:, mixture.means_.argmin()]
    chosen = (clean > 0.5).nonzero()[0]
    return clean, chosen, losses.numpy()[clean > 0.5].ravel()


def colour_segmentation(Mixture, rng):
    """An image whose pixels take the mean colour of their component."""
    colours = np.array([[220, 40, 30], [30, 150, 60], [20, 30, 180]])
    image = colours[rng.integers(3, size=(20, 24))] + rng.normal(0, 9, (20, 24, 3))
    image = image.clip(0, 255).astype(np.uint8)
    # As floats: of integers scikit-learn cuts off the squared distances.
    pixels = image.reshape(-1, 3) / 255
    mixture = Mixture(3, covariance_type="tied", random_state=3).fit(pixels)
    segments = mixture.predict(pixels).reshape(image.shape[:2])
    return segments, mixture.means_[segments]


def spike_sorting(Mixture, rng):
    """Waveforms on three principal components; K by BIC, then small units and doubts left out."""
    shapes = rng.normal(size=(3, 30)) * 4
    waveforms = shapes[rng.integers(3, size=300)] + rng.normal(size=(300, 30))
    scores = PCA(3, random_state=0).fit_transform(waveforms)
    fits = {k: Mixture(k, n_init=2, random_state=1).fit(scores) for k in range(1, 6)}
    bics = {k: mixture.bic(scores) for k, mixture in fits.items()}
    best = fits[min(bics, key=bics.get)]
    certain = best.predict_proba(scores).max(axis=1) > 0.9
    units = [k for k in range(best.n_components) if best.weights_[k] > 0.05]
    return list(bics.values()), best.n_components, certain, units


def fisher_vectors(Mixture, rng):
    """Gradients of the log-likelihood by weights, means and deviations, of some descriptors."""
    training, descriptors = rng.normal(size=(400, 5)), rng.normal(0.2, 1.1, size=(37, 5))
    mixture = Mixture(4, covariance_type="diag", random_state=0).fit(training)
    shares = mixture.predict_proba(descriptors)
    weights, deviations = mixture.weights_, np.sqrt(mixture.covariances_)
    residuals = (descriptors[:, None] - mixture.means_) / deviations
    by_weights = (shares - weights).mean(0) / np.sqrt(weights)
    scale = len(descriptors) * np.sqrt(weights)[:, None]
    by_means = np.einsum("nk,nkd->kd", shares, residuals) / scale
    by_deviations = np.einsum("nk,nkd->kd", shares, residuals**2 - 1) / scale / np.sqrt(2)
    vector = np.concatenate([by_weights, by_means.ravel(), by_deviations.ravel()])
    vector = np.sign(vector) * np.sqrt(np.abs(vector))
    return vector / np.linalg.norm(vector)


def anomaly_scores(Mixture, rng):
    """The rows below the second percentile of the training density, from a frame of columns."""
    normal = pd.DataFrame(rng.normal(size=(300, 3)), columns=["flow", "load", "heat"])
    new = pd.DataFrame(rng.normal(size=(40, 3)) * [1, 1, 4], columns=normal.columns)
    detector = make_pipeline(StandardScaler(), Mixture(n_components=3, random_state=5)).fit(normal)
    threshold = np.percentile(detector.score_samples(normal), 2)
    return detector.score_samples(new), detector.score_samples(new) < threshold


def sorted_by_subclass(Mixture, rng):
    """A subclass that orders its components by the first feature."""

    class Sorted(Mixture):
        def fit(self, X, y=None):
            super().fit(X, y)
            order = self.means_[:, 0].argsort()
            for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
                setattr(self, name, getattr(self, name)[order])
            self.precisions_ = self.precisions_[order]
            return self

    X = np.concatenate([rng.normal(c, 1, size=(60, 2)) for c in (9, 0, 5)])
    mixture = Sorted(3, random_state=0).fit(X)
    return mixture.means_, mixture.precisions_, mixture.predict(X), mixture.predict_proba(X)


def grid_search_by_bic(Mixture, rng):
    """A search whose scorer is the criterion, larger is better."""
    X = np.concatenate([rng.normal(c, 1, size=(80, 2)) for c in (0, 6)])
    grid = {"n_components": [1, 2, 3], "covariance_type": ["full", "diag", "spherical"]}
    search = GridSearchCV(
        Mixture(random_state=0), grid, scoring=lambda estimator, X: -estimator.bic(X), cv=3
    ).fit(X)
    table = pd.DataFrame(search.cv_results_)["mean_test_score"]
    return table.to_numpy(), sorted(search.best_params_.items()), search.best_estimator_.means_


def iteration_by_iteration(Mixture, rng):
    """One iteration at a time, with what the program draws after each."""
    X = np.concatenate([rng.normal(c, 1, size=(50, 2)) for c in (0, 3)])
    mixture = Mixture(
        2, max_iter=1, warm_start=True, init_params="random_from_data", random_state=2
    )
    seen = []
    for _ in range(6):
        mixture.fit(X)
        seen.append([mixture.lower_bound_, *mixture.means_.ravel(), *mixture.weights_])
    return np.array(seen)


def parameters_by_hand(Mixture, rng):
    """A mixture that is never fitted: all that is needed is set."""
    mixture = Mixture(n_components=2, covariance_type="full", random_state=0)
    mixture.weights_ = np.array([0.3, 0.7])
    mixture.means_ = np.array([[0.0, 1.0], [4.0, -2.0]])
    mixture.covariances_ = np.array([[[1.0, 0.3], [0.3, 2.0]], [[0.5, 0.0], [0.0, 0.8]]])
    mixture.precisions_cholesky_ = np.linalg.cholesky(np.linalg.inv(mixture.covariances_))
    X, components = mixture.sample(30)
    return X, components, mixture.predict(X), mixture.score_samples(X), mixture.score(X)


def adapted_speaker(Mixture, rng):
    """A background model whose means move towards a speaker's frames; the ratio decides."""
    background, speaker = rng.normal(size=(500, 4)), rng.normal(0.8, 1, size=(60, 4))
    universal = Mixture(4, covariance_type="diag", random_state=0).fit(background)
    shares = universal.predict_proba(speaker)
    counts = shares.sum(0)[:, None]
    adapted = copy.deepcopy(universal)
    alpha = counts / (counts + 16.0)
    adapted.means_ = alpha * (shares.T @ speaker) / counts + (1 - alpha) * universal.means_
    trials = rng.normal(0.8, 1, size=(25, 4))
    return adapted.means_, adapted.score(trials) - universal.score(trials)


def divergence_by_sampling(Mixture, rng):
    """Kullback–Leibler and Jensen–Shannon divergences of two fitted densities."""
    p = Mixture(2, random_state=0).fit(rng.normal(size=(300, 2)))
    q = Mixture(3, random_state=0).fit(rng.normal(0.5, 1.2, size=(300, 2)))
    X, _ = p.sample(500)
    log_p, log_q = p.score_samples(X), q.score_samples(X)
    middle = np.logaddexp(log_p, log_q) - np.log(2)
    return (log_p - log_q).mean(), (log_p - middle).mean()


def start_from_own_clusters(Mixture, rng):
    """K-means outside, its centres and sizes as the start."""
    X = np.concatenate([rng.normal(c, 1, size=(70, 3)) for c in (0, 4, 8)])
    clusters = KMeans(3, n_init=1, random_state=0).fit(X)
    weights = np.bincount(clusters.labels_) / len(X)
    given = {"means_init": clusters.cluster_centers_, "weights_init": weights}
    mixture = Mixture(3, **given, random_state=0)
    labels = mixture.fit_predict(X)
    return labels, mixture.means_, mixture.n_iter_, adjusted_rand_score(labels, clusters.labels_)


def regression_by_conditioning(Mixture, rng):
    """The mean of y given x, from the joint density."""
    x = rng.uniform(-3, 3, 400)
    joint = np.column_stack([x, np.sin(x) + 0.1 * rng.normal(size=400)])
    mixture = Mixture(5, random_state=0).fit(joint)
    at = np.linspace(-2, 2, 9)[:, None]
    means, covariances = mixture.means_, mixture.covariances_
    variance = covariances[:, 0, 0]
    density = mixture.weights_ * np.exp(-0.5 * (at - means[:, 0]) ** 2 / variance)
    density /= np.sqrt(variance)
    conditional = means[:, 1] + covariances[:, 1, 0] / variance * (at - means[:, 0])
    return (density * conditional).sum(1) / density.sum(1)


PROGRAMS = [
    split_of_losses,
    colour_segmentation,
    spike_sorting,
    fisher_vectors,
    anomaly_scores,
    sorted_by_subclass,
    grid_search_by_bic,
    iteration_by_iteration,
    parameters_by_hand,
    adapted_speaker,
    divergence_by_sampling,
    start_from_own_clusters,
    regression_by_conditioning,
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_program_with_the_other_import(program):
    theirs, ours = (program(Mixture, np.random.default_rng(7)) for Mixture in (Theirs, Ours))
    pairs = zip(theirs, ours, strict=True) if isinstance(theirs, tuple) else [(theirs, ours)]
    for expected, found in pairs:
        # Scores are NumPy's floats in scikit-learn 1.7, and Python's later.
        assert isinstance(expected, type(found))
        if np.asarray(expected).dtype.kind == "f":
            # Of the iterations of two libraries, the rounding of each adds up.
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
        else:
            np.testing.assert_array_equal(found, expected)


class TestPyCave:
    """Programs written for PyCave and torchgmm, with the changes that the page on them names."""

    def test_a_subclass_as_spatial_tools_have_it(self, rng):
        class Cluster(TorchMixture):
            """Names and defaults of its own, K-means outside, labels as categories."""

            def __init__(self, n_clusters=1, *, covariance_type="full", random_state=0):
                super().__init__(
                    num_components=n_clusters,
                    covariance_type=covariance_type,
                    init_strategy="kmeans",
                    trainer_params={"max_epochs": 50, "accelerator": "cpu"},
                )
                self.n_clusters = n_clusters
                self.random_state = random_state

            def fit(self, data):
                start = KMeans(self.n_clusters, n_init=1, random_state=self.random_state).fit(data)
                self.init_means = torch.tensor(start.cluster_centers_).float()
                return super().fit(data)

            def predict(self, data):
                labels = super().predict(data)
                return pd.Categorical(labels, categories=np.arange(self.n_clusters))

        X = np.concatenate([rng.normal(c, 1, size=(50, 2)) for c in (0, 8, 16)]).astype(np.float32)
        model = Cluster(3).fit(X)
        assert model.num_components == 3
        assert model.converged_
        assert sorted(model.predict(X).value_counts()) == [50, 50, 50]

    def test_density_of_a_grid_of_tensors(self, rng):
        points = torch.from_numpy(rng.normal(size=(200, 2))).float()
        model = TorchMixture(2, covariance_type="full", trainer_params={"max_epochs": 20}).fit(
            points
        )
        # The other sign: PyCave's `exp(-score_samples)`.
        density = torch.exp(model.score_samples(points))
        _, log_prob = model.model_(points)
        torch.testing.assert_close(density, log_prob.exp(), rtol=1e-4, atol=1e-7)

    def test_parameters_as_tensors(self, rng):
        model = TorchMixture(3, random_state=0).fit(rng.normal(size=(100, 4))).model_
        assert model.component_probs.sum().item() == pytest.approx(1.0)
        assert model.means.shape == model.covariances.shape == (3, 4)
        assert model.sample(7).shape == (7, 4)
